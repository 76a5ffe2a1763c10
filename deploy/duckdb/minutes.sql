-- How many minutes each agent spoke, by day and codec: from the indexes that `callvault seal` writes beside the manifests.
-- Run it with DuckDB in the folder of the manifests' bucket, or put s3://BUCKET/PREFIX/ before _seals.
-- A manifest that was partial and came to be complete has rows in two indexes: the latest ones count.
SELECT day, agent_id, codec, count(*) AS recordings, round(sum(duration_ms) / 60000, 2) AS minutes, sum(size) AS bytes
FROM (
    FROM read_json('_seals/*/*/*/index*.jsonl.zst', format = 'newline_delimited', union_by_name = true, sample_size = -1)
    QUALIFY archived_at IS NULL OR archived_at = max(archived_at) OVER (PARTITION BY manifest)
)
WHERE kind = 'recording' AND outcome = 'archived'
GROUP BY ALL
ORDER BY ALL;
