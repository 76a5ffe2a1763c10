//! `callvault seal`, and what its seals prove.

mod proving;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use self::support::{Archive, day, findings, key_pair, lines};
use crate::support::{call, place::Place};

/// Where tests/run puts it.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("venv/bin/python")
}

async fn both() -> [Place; 2] {
    [Place::folder(), Place::s3().await]
}

/// What an auditor who trusts no program of ours types, by the specification in `src/seal.rs`.
const BY_HAND: &str = r#"
set -euo pipefail
cd "$1"
before=-
for seal in _seals/chain/*.json; do
    jq -r '.statement[]' "$seal" >statement
    sha256=$(sha256sum <statement | cut -d' ' -f1)
    [ "$sha256" = "$(jq -r .sha256 "$seal")" ]
    [ "$before" = "$(sed -n 's/^previous //p' statement)" ]
    jq -r .signature.value "$seal" | base64 -d >signature
    openssl pkeyutl -verify -rawin -pubin -inkey "$2" -in statement -sigfile signature
    index=$(sed -n 's/^index //p' statement)
    [ "$(sha256sum <"$index" | cut -d' ' -f1)" = "$(sed -n 's/^index-sha256 //p' statement)" ]
    zstd -qdc "$index" >rows
    [ "$(sha256sum <rows | cut -d' ' -f1)" = "$(sed -n 's/^unpacked-sha256 //p' statement)" ]
    [ "$(wc -l <rows)" = "$(sed -n 's/^rows //p' statement)" ]
    jq -r '.manifest_sha256 + "  " + .manifest' rows | uniq >manifests
    [ "$(wc -l <manifests)" = "$(sed -n 's/^manifests //p' statement)" ]
    sha256sum -c manifests
    before=$sha256
done
echo "the last root is $before"
"#;

#[tokio::test]
async fn other_tools_find_every_seal_right() {
    let archive = Archive::new(Place::folder()).await;
    archive.calls(4, &["a", "b", "c"]).await;
    archive.calls(3, &["d"]).await;
    let (private, public) = key_pair(archive.dir());
    let key = ["--key", private.to_str().unwrap()];
    let (code, report) = archive.seal(&key).await;
    assert_eq!(code, 0, "{report:?}");
    let root = report.last().unwrap()["root"].as_str().unwrap().to_owned();

    let output = Command::new("bash")
        .args(["-c", BY_HAND, "bash"])
        .args([archive.place.root(), public])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.ends_with(&format!("the last root is {root}\n")),
        "{said}"
    );
    assert_eq!(said.matches("manifest.json: OK").count(), 4);
}

#[tokio::test]
async fn days_are_sealed_once_and_those_without_calls_too() {
    for place in both().await {
        let archive = Archive::new(place).await;
        let (code, report) = archive.seal(&[]).await;
        assert_eq!((code, report.len()), (0, 1), "{report:?}");
        archive.calls(5, &["a", "b"]).await;
        archive.calls(3, &["c"]).await;

        let (code, report) = archive.seal(&[]).await;
        assert_eq!(code, 0, "{report:?}");
        let told = |line: &Value| (line["day"].clone(), line["manifests"].as_u64().unwrap());
        let days: Vec<_> = report[..2].iter().map(told).collect();
        assert_eq!(days, [(day(5).into(), 2), (day(3).into(), 1)]);
        let summary = &report[2];
        assert_eq!(
            (&summary["seals"], &summary["findings"]),
            (&2.into(), &0.into())
        );

        // The second time what was between and after them is known to be empty.
        let (code, report) = archive.seal(&[]).await;
        assert_eq!(code, 0, "{report:?}");
        let days: Vec<_> = report[..report.len() - 1].iter().map(told).collect();
        assert!(
            days.contains(&(day(4).into(), 0)) && days.contains(&(day(2).into(), 0)),
            "{days:?}"
        );
        assert!(
            days.iter().all(|(_, manifests)| *manifests == 0),
            "{days:?}"
        );
        let before = archive.place.keys().await;
        let (code, report) = archive.seal(&[]).await;
        assert_eq!((code, report.len()), (0, 1), "{report:?}");
        let (code, report) = archive.seal(&["--day", &day(5)]).await;
        assert_eq!(
            (code, &report[0]["what"]),
            (0, &"nothing".into()),
            "{report:?}"
        );
        assert_eq!(archive.place.keys().await, before);
    }
}

#[tokio::test]
async fn what_comes_late_and_what_was_partial_takes_a_supplement() {
    for place in both().await {
        let archive = Archive::new(place).await;
        archive.calls(3, &["a"]).await;
        archive.partial_call(3, "b").await;
        let (code, report) = archive.seal(&[]).await;
        assert_eq!(
            (code, &report[0]["manifests"]),
            (0, &2.into()),
            "{report:?}"
        );

        archive.calls(3, &["c"]).await;
        archive.complete_call(3, "b").await;
        let (code, report) = archive.seal(&[]).await;
        let line = &report[0];
        assert_eq!(code, 0, "{report:?}");
        assert_eq!(
            (&line["part"], &line["manifests"]),
            (&2.into(), &2.into()),
            "{line}"
        );
        let index = line["index"].as_str().unwrap();
        assert!(index.ends_with("/index-2.jsonl.zst"), "{index}");
        let rows = archive.rows(index).await;
        let told: Vec<_> = rows
            .iter()
            .map(|row| (&row["call_id"], &row["status"]))
            .collect();
        assert_eq!(
            told,
            [
                (&"b".into(), &"complete".into()),
                (&"b".into(), &"complete".into()),
                (&"c".into(), &"complete".into())
            ]
        );
        let (code, report) = archive.seal(&["--day", &day(3)]).await;
        assert_eq!(
            (code, &report[0]["what"]),
            (0, &"nothing".into()),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn what_was_sealed_is_never_sealed_as_anything_else() {
    for place in both().await {
        let archive = Archive::new(place).await;
        archive.calls(3, &["a", "b", "c"]).await;
        archive.partial_call(3, "p").await;
        let (code, _) = archive.seal(&[]).await;
        assert_eq!(code, 0);
        let before = archive.place.keys().await;

        archive.remove(&archive.manifest(3, "a")).await;
        // Of the same length.
        archive
            .alter(&archive.manifest(3, "b"), "INBOUND", "UNBOUND")
            .await;
        archive
            .alter(&archive.manifest(3, "c"), "INBOUND", "OUTBOUND")
            .await;
        // One that forgets what it had is no successor.
        let other = archive.read(&archive.manifest(3, "p")).await;
        let other = other
            .replace("\"archived\"", "\"unavailable\"")
            .replace("\"object\"", "\"no_object\"");
        archive.write(&archive.manifest(3, "p"), other).await;
        archive.calls(3, &["d"]).await;
        let refused = [
            ("sealed_altered".to_owned(), archive.manifest(3, "b")),
            ("sealed_altered".to_owned(), archive.manifest(3, "c")),
            ("sealed_altered".to_owned(), archive.manifest(3, "p")),
            ("sealed_missing".to_owned(), archive.manifest(3, "a")),
        ];
        for arguments in [&["--day", &day(3)][..], &[]] {
            let (code, report) = archive.seal(arguments).await;
            assert_eq!(
                (code, findings(&report)),
                (1, refused.to_vec()),
                "{report:?}"
            );
        }
        let after = archive.place.keys().await;
        let new: Vec<_> = after
            .difference(&before)
            .filter(|key| key.contains(&day(3).replace('-', "/")))
            .collect();
        assert!(new.iter().all(|key| !key.starts_with("_seals/")), "{new:?}");
    }
}

#[tokio::test]
async fn of_two_who_seal_at_once_each_day_has_one_seal() {
    for place in both().await {
        let archive = Archive::new(place).await;
        archive.calls(4, &["a"]).await;
        archive.calls(3, &["b", "c"]).await;
        let (one, other, third) =
            tokio::join!(archive.seal(&[]), archive.seal(&[]), archive.seal(&[]));
        assert_eq!(
            (one.0, other.0, third.0),
            (0, 0, 0),
            "{one:?} {other:?} {third:?}"
        );
        let keys = archive.place.keys().await;
        let indexes: Vec<_> = keys.iter().filter(|key| key.ends_with(".zst")).collect();
        let seals = keys
            .iter()
            .filter(|key| key.starts_with("_seals/chain/"))
            .count();
        assert_eq!(indexes.len(), seals, "{keys:?}");
        let (code, report) = archive.seal(&["--day", &day(3)]).await;
        assert_eq!(
            (code, &report[0]["what"]),
            (0, &"nothing".into()),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_chain_that_is_not_what_it_was_is_not_made_longer() {
    let archive = Archive::new(Place::folder()).await;
    for days in [6, 5, 4] {
        archive.calls(days, &["a"]).await;
    }
    let roots = archive.dir().join("roots");
    let noted = ["--roots", roots.to_str().unwrap()];
    let (code, report) = archive.seal(&noted).await;
    assert_eq!(
        (code, lines(&fs::read_to_string(&roots).unwrap())),
        (0, 3),
        "{report:?}"
    );
    archive.calls(3, &["a"]).await;
    let seal = |number: u32| format!("_seals/chain/{number:08}.json");
    let code_of = async |arguments: &[&str]| {
        let (code, report) = archive.seal(arguments).await;
        let found = findings(&report)
            .into_iter()
            .map(|(code, _)| code)
            .collect::<Vec<_>>();
        (code, found)
    };

    let second = archive.read(&seal(2)).await;
    archive.remove(&seal(2)).await;
    assert_eq!(code_of(&[]).await, (1, vec!["seal_missing".to_owned()]));
    archive.write(&seal(2), "{}").await;
    assert_eq!(code_of(&[]).await.1, ["seal_invalid", "seal_missing"]);
    archive.write(&seal(2), second).await;

    // The newest seal is gone, as if its day had not been sealed yet: only who has noted it knows.
    let third = archive.read(&seal(3)).await;
    archive.remove(&seal(3)).await;
    assert_eq!(code_of(&noted).await, (1, vec!["seal_root".to_owned()]));
    archive.write(&seal(3), third).await;
    let (code, found) = code_of(&noted).await;
    assert_eq!((code, found.len()), (0, 0));
}

#[tokio::test]
async fn nobody_gets_a_chain_signed_that_the_signer_does_not_know() {
    let archive = Archive::new(Place::folder()).await;
    archive.calls(4, &["a"]).await;
    let (private, public) = key_pair(archive.dir());
    let key = ["--key", private.to_str().unwrap()];
    let (code, report) = archive.seal(&[]).await;
    assert_eq!(
        (code, &report[0]["signed"]),
        (0, &false.into()),
        "{report:?}"
    );
    archive.calls(3, &["a"]).await;

    // Signing vouches for what is there: only with a root from elsewhere.
    let (code, report) = archive.seal(&key).await;
    assert_eq!(
        (code, &findings(&report)[0].0[..]),
        (1, "seal_unsigned"),
        "{report:?}"
    );
    let root = archive.root(1).await;
    let expected = [&key[..], &["--expect-root", &root]].concat();
    let (code, report) = archive.seal(&expected).await;
    assert_eq!(
        (code, &report[0]["signed"]),
        (0, &true.into()),
        "{report:?}"
    );

    // From then on without it; and nobody leaves the signature out by mistake.
    archive.calls(2, &["a"]).await;
    let output = archive.run(&["seal", "--json"]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let (code, report) = archive.seal(&key).await;
    assert_eq!(code, 0, "{report:?}");

    // A new key, with the old one's public half.
    let other = archive.dir().join("other");
    fs::create_dir(&other).unwrap();
    let (private, _) = key_pair(&other);
    let key = ["--key", private.to_str().unwrap()];
    archive.partial_call(2, "late").await;
    let (code, _) = archive.seal(&key).await;
    assert_eq!(code, 1);
    let with_old = [&key[..], &["--public-key", public.to_str().unwrap()]].concat();
    let (code, report) = archive.seal(&with_old).await;
    assert_eq!(
        (code, &report[0]["signed"]),
        (0, &true.into()),
        "{report:?}"
    );
}

#[tokio::test]
async fn what_is_no_manifest_is_sealed_as_it_is_and_told_of() {
    let archive = Archive::new(Place::folder()).await;
    archive.calls(3, &["a"]).await;
    archive
        .write(&archive.manifest(3, "b"), "{\"schema\": 7}")
        .await;
    let (code, report) = archive.seal(&[]).await;
    assert_eq!(
        (code, &report[0]["manifests"]),
        (1, &2.into()),
        "{report:?}"
    );
    assert_eq!(report[0]["unreadable"][0], archive.manifest(3, "b"));
    archive
        .write(&archive.manifest(3, "b"), "{\"schema\": 8}")
        .await;
    let (code, report) = archive.seal(&["--day", &day(3)]).await;
    assert_eq!(
        (code, &findings(&report)[0].0[..]),
        (1, "sealed_altered"),
        "{report:?}"
    );
}

#[tokio::test]
async fn an_index_that_a_crash_left_behind_is_in_nobodys_way() {
    for place in both().await {
        let archive = Archive::new(place).await;
        archive.calls(3, &["a"]).await;
        let folder = format!("_seals/{}", day(3).replace('-', "/"));
        archive
            .write(&format!("{folder}/index.jsonl.zst"), "half an index")
            .await;
        let output = archive.run(&["seal", "--json"]).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("belongs to no seal"),
            "{said}"
        );
        let key = format!("{folder}/index-2.jsonl.zst");
        assert_eq!(archive.rows(&key).await.len(), 1);
        let (code, report) = archive.seal(&["--day", &day(3)]).await;
        assert_eq!(
            (code, &report[0]["what"]),
            (0, &"nothing".into()),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_day_that_is_not_over_is_not_sealed() {
    let archive = Archive::new(Place::folder()).await;
    for wrong in [&day(0), "2999-01-01", "24.8.2023"] {
        let output = archive.run(&["seal", "--day", wrong]).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
    assert!(archive.place.keys().await.is_empty());
    let gone: PathBuf = archive.dir().join("no-key");
    let output = archive
        .run(&["seal", "--key", gone.to_str().unwrap()])
        .await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(2) && said.contains("no-key"),
        "{said}"
    );
}

#[tokio::test]
async fn an_analyst_loads_the_indexes_into_duckdb() {
    let archive = Archive::new(Place::folder()).await;
    archive.calls(5, &["ann", "bob", "amy"]).await;
    archive.partial_call(4, "ada").await;
    let (code, report) = archive.seal(&[]).await;
    assert_eq!(code, 0, "{report:?}");
    // Then it is in two indexes; and there are empty ones, of the days since.
    archive.complete_call(4, "ada").await;
    let (code, report) = archive.seal(&[]).await;
    assert_eq!(code, 0, "{report:?}");

    let query = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/duckdb/minutes.sql");
    let program = "import duckdb, sys\nfor row in duckdb.sql(open(sys.argv[1]).read()).fetchall(): print(*row)";
    let output = Command::new(python())
        .args(["-c", program, query])
        .current_dir(archive.place.root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let second = call::wav(8000).len();
    let expected = format!(
        "{day} agent-a pcm_s16le 2 0.03 {}\n{day} agent-b pcm_s16le 1 0.02 {second}\n{} agent-a pcm_s16le 2 0.05 {}\n",
        2 * second,
        self::day(4),
        second + call::wav(16_000).len(),
        day = self::day(5),
    );
    assert_eq!(said, expected);
}
