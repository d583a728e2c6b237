// How many facts each source kind and model stated, and how sure it was. No parameter.
MATCH (:Entity)-[f]->(:Entity)
WHERE f.relation IS NOT NULL
MATCH (s:Source)
WHERE s.source = f.source
RETURN s.kind AS kind, s.model AS model, s.prompt AS prompt, s.prompt_version AS prompt_version,
       count(*) AS n_facts, avg(f.confidence) AS mean_confidence
ORDER BY n_facts DESC, kind, model, prompt
