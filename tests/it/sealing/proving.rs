//! `callvault verify --sealed`: what somebody who may write to every bucket cannot hide.

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

use callvault::digest::Sha256;

use super::{
    both,
    support::{Archive, day, key_pair},
};
use crate::support::{call, place::Place};

/// An archive of three days, signed, and the options that know who signed.
struct Signed {
    archive: Archive,
    private: String,
    public: String,
}

impl Signed {
    async fn new(place: Place) -> Self {
        let archive = Archive::new(place).await;
        archive.calls(5, &["a", "b", "c"]).await;
        archive.calls(4, &["d"]).await;
        archive.calls(3, &["e", "f"]).await;
        let (private, public) = key_pair(archive.dir());
        let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
        let signed = Self {
            archive,
            private: text(private),
            public: text(public),
        };
        signed.seal().await;
        signed
    }

    async fn seal(&self) {
        let (code, report) = self.archive.seal(&["--key", &self.private]).await;
        assert_eq!(code, 0, "{report:?}");
    }

    /// As `openssl pkey -pubin -outform DER | sha256sum` says.
    fn fingerprint(&self) -> String {
        let der = ["pkey", "-pubin", "-in", &self.public, "-outform", "DER"];
        let output = Command::new("openssl").args(der).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Sha256::of(&output.stdout).to_string()
    }

    async fn verify(&self) -> Vec<(String, String)> {
        self.archive.verify(&["--public-key", &self.public]).await.0
    }

    /// What is found now and was not before.
    async fn finds(&self, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(code, key)| ((*code).to_owned(), (*key).to_owned()))
            .collect();
        assert_eq!(self.verify().await, expected);
    }
}

fn seal(number: u32) -> String {
    format!("_seals/chain/{number:08}.json")
}

fn index(ago: u64) -> String {
    format!("_seals/{}/index.jsonl.zst", day(ago).replace('-', "/"))
}

#[tokio::test]
async fn a_sealed_archive_that_nobody_touched_is_proven() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let (found, summary) = signed
            .archive
            .verify(&["--public-key", &signed.public])
            .await;
        assert_eq!(found, []);
        let seals = &summary["seals"];
        assert_eq!(
            (&summary["manifests"], &seals["seals"]),
            (&6.into(), &3.into()),
            "{summary}"
        );
        assert_eq!(
            (&seals["proven"], &seals["noted"]),
            (&3.into(), &0.into()),
            "{summary}"
        );
        let root = seals["root"].as_str().unwrap();
        assert_eq!(root, signed.archive.root(3).await);
        let (found, summary) = signed
            .archive
            .verify(&["--quick", "--expect-root", root])
            .await;
        assert_eq!(
            (found, &summary["seals"]["noted"]),
            (vec![], &3.into()),
            "{summary}"
        );

        let output = signed.archive.run(&["verify", "--sealed"]).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("nothing vouches for them"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_object_that_was_altered_with_its_manifest_is_found() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let archive = &signed.archive;
        let manifest = archive.manifest(5, "b");
        let recording = manifest.replace("manifest.json", "recording.wav");
        let mut other = call::wav(8000).to_vec();
        let before = Sha256::of(&other).to_string();
        other[1000] ^= 1;
        let after = Sha256::of(&other).to_string();
        archive.write(&recording, other).await;
        archive.alter(&manifest, &before, &after).await;

        let (code, report) = archive.json(&["verify"], &[]).await;
        assert_eq!(code, 0, "its manifest agrees with it: {report:?}");
        signed.finds(&[("sealed_altered", &manifest)]).await;
    }
}

#[tokio::test]
async fn a_manifest_that_was_removed_is_missed_with_its_objects_or_without() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let archive = &signed.archive;
        let removed = archive.manifest(5, "c");
        archive.remove(&removed).await;
        signed.finds(&[("sealed_missing", &removed)]).await;

        // A day of which nothing is left.
        let gone = archive.manifest(4, "d");
        archive.remove(&gone).await;
        archive
            .remove(&gone.replace("manifest.json", "recording.wav"))
            .await;
        let both = [("sealed_missing", &removed[..]), ("sealed_missing", &gone)];
        signed.finds(&both).await;
        let (found, _) = archive
            .verify(&["--since", &day(4), "--until", &day(4)])
            .await;
        assert_eq!(found, [("sealed_missing".to_owned(), gone)]);
    }
}

#[tokio::test]
async fn a_manifest_that_was_slipped_in_is_found_whatever_time_it_has() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let archive = &signed.archive;
        let whole = archive.read(&archive.manifest(5, "a")).await;
        let slipped = archive.manifest(5, "a2");
        archive
            .write(
                &slipped,
                whole.replace("\"a\"", "\"a2\"").replace("r-a", "r-a2"),
            )
            .await;
        let found = signed.verify().await;
        let of_seals: Vec<_> = found
            .iter()
            .filter(|(code, _)| ["unsealed", "slipped_in"].contains(&code.as_str()))
            .collect();
        assert_eq!(of_seals, [&("unsealed".to_owned(), slipped.clone())]);

        if archive.place.endpoint().is_none() {
            let file = fs::File::options()
                .write(true)
                .open(archive.place.root().join(&slipped))
                .unwrap();
            let hour = Duration::from_hours(1);
            file.set_modified(SystemTime::now() - hour).unwrap();
            let found = signed.verify().await;
            assert!(
                found.contains(&("slipped_in".to_owned(), slipped)),
                "{found:?}"
            );
        }
        // A day that was never sealed.
        let other = archive.manifest(9, "x");
        archive.write(&other, whole).await;
        let found = signed.verify().await;
        let day = day(9).replace('-', "/");
        assert!(
            found.contains(&("day_unsealed".to_owned(), day)),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn an_index_that_is_not_what_was_sealed_proves_nothing_and_is_named() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let archive = &signed.archive;
        let whole = archive.place.see(&index(5)).await.unwrap().bytes;
        for (bytes, code) in [
            (&whole[..whole.len() - 1], "index_altered"),
            (b"", "index_altered"),
        ] {
            archive.write(&index(5), bytes.to_vec()).await;
            signed.finds(&[(code, &index(5))]).await;
        }
        let mut other = whole.to_vec();
        other[20] ^= 1;
        archive.write(&index(5), other).await;
        signed.finds(&[("index_altered", &index(5))]).await;
        archive.remove(&index(5)).await;
        signed.finds(&[("index_missing", &index(5))]).await;
        // It can come from anywhere: the seal tells whether it is the right one.
        archive.write(&index(5), whole).await;
        signed.finds(&[]).await;
    }
}

#[tokio::test]
async fn all_written_anew_without_the_key_is_found_by_key_and_by_root() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let archive = &signed.archive;
        let root = archive.root(2).await;
        archive
            .alter(
                &archive.manifest(5, "b"),
                "\"duration_ms\": 1000",
                "\"duration_ms\": 7000",
            )
            .await;
        for key in archive.place.keys().await {
            if key.starts_with("_seals/") {
                archive.remove(&key).await;
            }
        }
        let (code, report) = archive.seal(&[]).await;
        assert_eq!(code, 0, "{report:?}");

        let (found, _) = archive.verify(&[]).await;
        assert_eq!(found, [], "which is why nothing is said to vouch for it");
        let unsigned: Vec<_> = (1..=3).map(|n| ("seal_unsigned", seal(n))).collect();
        let unsigned: Vec<_> = unsigned
            .iter()
            .map(|(code, key)| (*code, key.as_str()))
            .collect();
        signed.finds(&unsigned).await;
        let (found, _) = archive.verify(&["--expect-root", &root]).await;
        assert_eq!(found, gone(3));

        // With another key, or with the signatures that there were.
        let mut forged = Vec::new();
        for number in 1..=3 {
            forged.push(archive.read(&seal(number)).await);
        }
        let signature = format!(
            "\"signature\": {{\"algorithm\": \"ed25519\", \"public_key\": \"{}\", \"value\": \"{}\"}}",
            signed.fingerprint(),
            "A".repeat(86) + "==",
        );
        for (number, seal_text) in (1..=3).zip(forged) {
            let text = seal_text
                .trim_end()
                .trim_end_matches('}')
                .trim_end()
                .to_owned();
            archive
                .write(&seal(number), format!("{text},\n  {signature}\n}}\n"))
                .await;
        }
        let found = signed.verify().await;
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found.iter().all(|(code, _)| code == "seal_signature"),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn a_seal_that_was_removed_is_missed() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let archive = &signed.archive;
        let root = archive.root(3).await;
        let (second, third) = (archive.read(&seal(2)).await, archive.read(&seal(3)).await);
        archive.remove(&seal(2)).await;
        let day_of_second = day(4).replace('-', "/");
        signed
            .finds(&[("day_unsealed", &day_of_second), ("seal_missing", &seal(2))])
            .await;
        archive.write(&seal(2), second).await;
        signed.finds(&[]).await;

        // The last one, with its day: by a root alone, once the day is gone too.
        archive.remove(&seal(3)).await;
        for id in ["e", "f"] {
            let manifest = archive.manifest(3, id);
            archive.remove(&manifest).await;
            archive
                .remove(&manifest.replace("manifest.json", "recording.wav"))
                .await;
        }
        signed.finds(&[]).await;
        let (found, _) = archive.verify(&["--expect-root", &root]).await;
        assert_eq!(found, gone(2));
        archive.write(&seal(3), third).await;
        assert_eq!(signed.verify().await.len(), 2);
    }
}

#[tokio::test]
async fn what_comes_late_is_told_until_it_is_sealed() {
    for place in both().await {
        let signed = Signed::new(place).await;
        let archive = &signed.archive;
        archive.partial_call(4, "p").await;
        archive.calls(5, &["late"]).await;
        let (late, partial) = (archive.manifest(5, "late"), archive.manifest(4, "p"));
        let mut both = [("unsealed", &late[..]), ("unsealed", &partial)];
        both.sort_unstable();
        signed.finds(&both).await;
        signed.seal().await;
        signed.finds(&[]).await;

        archive.complete_call(4, "p").await;
        signed.finds(&[("unsealed", &partial)]).await;
        signed.seal().await;
        let (found, summary) = archive.verify(&["--public-key", &signed.public]).await;
        assert_eq!(
            (found, &summary["seals"]["supplements"]),
            (vec![], &3.into()),
            "{summary}"
        );
    }
}

#[tokio::test]
async fn an_archive_without_seals_is_told_once() {
    let archive = Archive::new(Place::folder()).await;
    archive.calls(5, &["a"]).await;
    archive.calls(4, &["a"]).await;
    let (found, summary) = archive.verify(&[]).await;
    assert_eq!(
        found,
        [("seal_missing".to_owned(), "_seals/chain".to_owned())]
    );
    assert_eq!(summary["seals"]["seals"], 0);
    let root = "0".repeat(64);
    let output = archive.run(&["verify", "--expect-root", &root]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// What is told where a noted root is of none of so many seals: it is gone, and vouches for none of them.
fn gone(seals: u32) -> Vec<(String, String)> {
    let unvouched = (1..=seals).map(|number| ("seal_unsigned".to_owned(), seal(number)));
    let root = ("seal_root".to_owned(), "_seals/chain".to_owned());
    std::iter::once(root).chain(unvouched).collect()
}

#[tokio::test]
async fn a_seal_that_came_after_the_noted_root_vouches_for_nothing() {
    let archive = Archive::new(Place::folder()).await;
    archive.calls(5, &["a"]).await;
    archive.seal(&[]).await;
    let noted = archive.root(1).await;
    archive.calls(5, &["slipped-in"]).await;
    archive.seal(&["--day", &day(5)]).await;
    let (found, _) = archive.verify(&["--expect-root", &noted]).await;
    assert_eq!(found, [("seal_unsigned".to_owned(), seal(2))]);
    let (code, report) = archive.seal(&["--expect-root", &noted]).await;
    assert_eq!(code, 1, "nor is it sealed over: {report:?}");
}
