//! `callvault verify`: a healthy archive is silent, and each kind of damage is named; nothing else is.

mod damage;
mod stopping;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{
    call,
    config::{BUCKETS, Setup},
    origin::{Origin, Reply},
    s3::S3,
    servers,
    worker::command,
};

const DAY: Duration = Duration::from_hours(24);
/// Under `archive.key`'s default and others, the day is the call's.
const DAYS: [&str; 3] = ["2023-08-24", "2023-08-25", "2023-11-01"];

/// An archive of callvault's own making, in three buckets.
struct Archive {
    setup: Setup,
    place: Place,
}

enum Place {
    Folders,
    /// With the prefix of all its keys.
    S3(S3, String),
}

impl Archive {
    fn folders() -> Self {
        let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
        for bucket in BUCKETS {
            setup.append(&format!(
                "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
            ));
        }
        // As the first worker does: without them there is no archive.
        for bucket in BUCKETS {
            fs::create_dir_all(setup.dir().join("archive").join(bucket)).unwrap();
        }
        let place = Place::Folders;
        Self { setup, place }
    }

    async fn s3() -> Self {
        let s3 = servers::s3().await;
        let endpoint = s3.endpoint().to_owned();
        Self::s3_at(s3, &endpoint)
    }

    /// As callvault reaches it there.
    fn s3_at(s3: S3, endpoint: &str) -> Self {
        let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
        for bucket in BUCKETS {
            let url = format!("s3://{}/{}", S3::BUCKET, setup.prefix(bucket));
            setup.append(&format!(
                "[buckets.{bucket}]\nurl = \"{url}\"\noptions = {{ endpoint = \"{endpoint}\", region = \"us-east-1\", \
                 allow_http = \"true\", access_key_id = \"any\", secret_access_key = \"any\" }}\n"
            ));
        }
        let prefix = setup.name.clone();
        let place = Place::S3(s3, prefix);
        Self { setup, place }
    }

    /// Archives events by callvault's own `archive`.
    async fn archive(&self, events: &[Event]) {
        let origin = Origin::start().await;
        let mut files = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let file = self.setup.dir().join(format!("event-{at}.json"));
            fs::write(&file, event.message(&origin)).unwrap();
            files.push(file);
        }
        let mut archive = command();
        archive.arg("archive").args(&files).arg("--config");
        let output = run(archive.arg(self.setup.write())).await;
        let partial = events.iter().any(|event| event.missing);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(partial.into()), "{said}");
    }

    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.setup.folder(bucket).join(key)
    }

    async fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) {
        let bytes: Bytes = bytes.into();
        match &self.place {
            Place::Folders => {
                let path = self.path(bucket, key);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            Place::S3(s3, prefix) => {
                let key = format!("{prefix}/{bucket}/{key}");
                assert!(s3.put(S3::BUCKET, &key, &[], bytes).await.is_success());
            }
        }
    }

    async fn get(&self, bucket: &str, key: &str) -> Bytes {
        match &self.place {
            Place::Folders => fs::read(self.path(bucket, key)).unwrap().into(),
            Place::S3(s3, prefix) => {
                let key = format!("{prefix}/{bucket}/{key}");
                s3.get(S3::BUCKET, &key).await.unwrap().1
            }
        }
    }

    async fn delete(&self, bucket: &str, key: &str) {
        match &self.place {
            Place::Folders => fs::remove_file(self.path(bucket, key)).unwrap(),
            Place::S3(s3, prefix) => {
                let key = format!("{prefix}/{bucket}/{key}");
                s3.delete(S3::BUCKET, &key).await;
            }
        }
    }

    /// Replaces text in a manifest, which has to be there.
    async fn edit(&self, manifest: &str, from: &str, to: &str) {
        let bytes = self.get("documents", manifest).await;
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        self.put("documents", manifest, text.replacen(from, to, 1))
            .await;
    }

    fn verify(&self, arguments: &[&str]) -> Command {
        let mut verify = command();
        verify
            .arg("verify")
            .args(arguments)
            .arg("--config")
            .arg(self.setup.write());
        verify
    }

    /// What an audit finds, in any order.
    async fn audit(&self, arguments: &[&str]) -> Audit {
        // Objects of this test's are all young.
        let young = ["--json", "--older-than", "0s"];
        let output = run(&mut self.verify(&[&young, arguments].concat())).await;
        Audit::of(&output)
    }
}

/// What an audit told.
#[derive(Debug)]
struct Audit {
    code: i32,
    /// Code, bucket and key of each finding.
    found: Vec<(String, String, String)>,
    unread: Vec<Value>,
    summary: Value,
}

impl Audit {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let mut lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let said = String::from_utf8_lossy(&output.stderr);
        let summary = lines
            .pop()
            .unwrap_or_else(|| panic!("no summary, but: {said}"));
        assert_eq!(summary["what"], "summary");
        let (found, unread): (Vec<_>, Vec<_>) = lines
            .into_iter()
            .partition(|line| line["what"] == "finding");
        let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let mut found: Vec<_> = found
            .iter()
            .map(|line| (word(line, "code"), word(line, "bucket"), word(line, "key")))
            .collect();
        found.sort();
        Self {
            code: output.status.code().unwrap(),
            found,
            unread,
            summary,
        }
    }

    fn is_clean(&self) {
        assert_eq!((self.code, &self.found[..]), (0, &[][..]), "{self:?}");
    }

    fn found(&self, expected: &[(&str, &str, &str)]) {
        let mut expected: Vec<_> = expected
            .iter()
            .map(|(code, bucket, key)| ((*code).into(), (*bucket).into(), (*key).into()))
            .collect();
        expected.sort();
        assert_eq!(self.found, expected);
        assert_eq!(self.code, i32::from(!expected.is_empty()));
        assert_eq!(self.unread, [] as [Value; 0]);
    }
}

async fn run(command: &mut Command) -> Output {
    let mut command = std::mem::replace(command, Command::new("true"));
    // Off the runtime's threads: the origin and proxies of the test live on them.
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    run.await.unwrap()
}

/// An event of three files.
#[derive(Debug, Clone, Default)]
struct Event {
    number: usize,
    /// Its analysis is no JSON.
    bad: bool,
    /// Its analysis is not to be had.
    missing: bool,
    /// Put after its text.
    after: &'static str,
    /// Put into its text.
    field: &'static str,
}

impl Event {
    fn of(number: usize) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    fn folder(&self) -> String {
        let day = DAYS[self.number % DAYS.len()].replace('-', "/");
        format!("{day}/call-{0}/request-{0}", self.number)
    }

    fn key(&self, file: &str) -> String {
        format!("{}/{file}", self.folder())
    }

    fn manifest(&self) -> String {
        self.key("manifest.json")
    }

    fn message(&self, origin: &Origin) -> String {
        let number = self.number;
        let mut attachments = Vec::new();
        for (name, content_type, bytes) in call::files() {
            let path = format!("/organization_{}/{number}/{name}", call::ORGANIZATION);
            let bytes = match name {
                "analysis.json" if self.bad => Bytes::from_static(b"{"),
                "recording.wav" => call::wav(800 + u32::try_from(number).unwrap()),
                _ => bytes,
            };
            if name == "analysis.json" && self.missing {
                origin.always(&path, Reply::Status(404));
            } else {
                origin.put(&path, bytes, content_type);
            }
            attachments.push(json!({"url": origin.url(&path), "agent_id": "a-1"}));
        }
        let day = DAYS[number % DAYS.len()];
        let data = json!({
            "id": format!("call-{number}"),
            "created_at": format!("{day}T10:05:18Z"),
            "attachments": attachments,
        });
        let request = format!("request-{number}");
        format!(
            "{{\"event\": \"call.analyzed\",{} \"request_id\": \"{request}\",\n  \"data\": {data}}}{}",
            self.field, self.after
        )
    }
}

fn make_old(path: &Path) {
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - 2 * DAY).unwrap();
}

/// Events of all the kinds that are in order.
fn healthy() -> Vec<Event> {
    let mut events: Vec<_> = (0..6).map(Event::of).collect();
    events[1].bad = true;
    events[2].after = "\r\n";
    events[3].field = "\"odd\": [1e999, \"\\ud800\", 18446744073709551616.0000001],";
    events
}

#[tokio::test]
async fn a_healthy_archive_is_silent_and_counted() {
    for archive in [Archive::folders(), Archive::s3().await] {
        archive.archive(&healthy()).await;
        for arguments in [&[][..], &["--quick"], &["--jobs", "1"]] {
            let audit = archive.audit(arguments).await;
            audit.is_clean();
            let counted =
                ["manifests", "partial", "objects", "events"].map(|name| &audit.summary[name]);
            assert_eq!(counted, [6, 0, 18, 6], "{}", audit.summary);
            assert_eq!(audit.summary["complete"], true);
        }
        let audit = archive
            .audit(&["--since", DAYS[1], "--until", DAYS[1]])
            .await;
        audit.is_clean();
        assert_eq!(audit.summary["manifests"], 2);

        let output = run(&mut archive.verify(&[])).await;
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("6 manifests (0 partial, 6 with"), "{said}");
        assert!(said.ends_with("nothing is wrong\n"), "{said}");
        assert!(output.stderr.is_empty(), "no progress bar in a pipe");
    }
}

#[tokio::test]
async fn keys_that_do_not_begin_with_the_day_are_verified_as_well() {
    for mut archive in [Archive::folders(), Archive::s3().await] {
        let key =
            "\"x/{organization_id}/{call_id}/{request_id}/{year}-{month}-{day}/{kind}-{file}\"";
        archive.setup.append("[archive]");
        archive.setup.set("archive", "key", key);
        archive.archive(&healthy()).await;
        archive.audit(&[]).await.is_clean();
        archive.audit(&["--quick"]).await.is_clean();

        let of = |number: usize, file: &str| {
            let day = DAYS[number % DAYS.len()];
            let organization = call::ORGANIZATION;
            format!("x/{organization}/call-{number}/request-{number}/{day}/{file}")
        };
        let (stray, gone) = (
            of(0, "recording-recording-2.wav"),
            of(5, "recording-recording.wav"),
        );
        archive.put("recordings", &stray, "a stray").await;
        archive
            .put("recordings", "x/of/somebody/else", "no stray")
            .await;
        archive.delete("recordings", &gone).await;
        let found = [
            ("object_unreferenced", "recordings", &stray[..]),
            ("object_missing", "recordings", &gone),
        ];
        archive.audit(&[]).await.found(&found);
        archive.audit(&["--quick"]).await.found(&found);
        let day = ["--since", DAYS[2]];
        archive.audit(&day).await.found(&found[1..]);
    }
}

#[tokio::test]
async fn two_names_of_one_place_are_one_place() {
    let mut archive = Archive::folders();
    archive.setup.append("[buckets.same]\nurl = \"file:archive/recordings\"\n[archive]\nquarantine_bucket = \"same\"\n");
    archive.archive(&healthy()).await;
    archive.audit(&[]).await.is_clean();
}

#[tokio::test]
async fn wrong_arguments_are_told_before_anything_is_read() {
    let archive = Archive::folders();
    let state = archive.setup.dir().join("state");
    let state = state.to_str().unwrap();
    let refused = async |arguments: &[&str]| {
        let output = run(&mut archive.verify(arguments)).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&["--since", "yesterday"]).await;
    assert!(said.contains("write one as 2023-08-24"), "{said}");
    refused(&["--since", "2023-08-25", "--until", "2023-08-24"]).await;
    refused(&["--only-new"]).await;
    refused(&["--jobs", "0"]).await;
    refused(&["--state", "/nowhere/state"]).await;

    archive.audit(&["--state", state]).await.is_clean();
    let said = refused(&["--state", state, "--quick"]).await;
    assert!(said.contains("a run with other --quick"), "{said}");
    fs::write(state, "something else").unwrap();
    let said = refused(&["--state", state]).await;
    assert!(said.contains("is no state of `callvault verify`"), "{said}");
}
