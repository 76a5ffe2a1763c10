//! `callvault sweep`, and what it is for: uploads and temporary files that nobody will finish.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::support::{
    call,
    config::Setup,
    lossy::Lossy,
    origin::Origin,
    place::Place,
    s3::S3,
    servers,
    wait::eventually,
    worker::{Worker, callvault, command},
};

const DAY: Duration = Duration::from_hours(24);
/// A key such as callvault makes.
const KEY: &str = "2023/08/24/5e09c7cc/00552b38/recording.wav";

/// A configuration with one bucket.
struct Sweep {
    _setup: Setup,
    config: PathBuf,
}

impl Sweep {
    fn of(bucket: &str) -> Self {
        let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
        setup.append(bucket);
        setup.append("[archive]\nquarantine_bucket = \"documents\"\n[attachments.all]\nfile = \"*\"\ncheck = \"none\"\nmax_size = \"1GiB\"\nbucket = \"documents\"\n");
        let config = setup.write();
        Self {
            _setup: setup,
            config,
        }
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let config = ["sweep", "--config", self.config.to_str().unwrap()];
        let all: Vec<String> = config
            .iter()
            .chain(arguments)
            .map(|&text| text.into())
            .collect();
        // Off the runtime's threads: proxies live on them.
        let run = tokio::task::spawn_blocking(move || callvault(all));
        run.await.unwrap()
    }

    /// The exit code, the leftovers' outcomes by their keys, and the bucket's own line.
    async fn json(&self, arguments: &[&str]) -> (i32, Vec<(String, String)>, Value) {
        let output = self.run(&[arguments, &["--json"]].concat()).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let bucket = lines.pop().expect("the bucket's line");
        assert_eq!(bucket["what"], "bucket");
        let word = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let mut rest: Vec<_> = lines
            .iter()
            .map(|line| (word(line, "key"), word(line, "outcome")))
            .collect();
        rest.sort();
        (output.status.code().unwrap(), rest, bucket)
    }
}

async fn s3() -> S3 {
    servers::s3().await
}

#[tokio::test]
async fn only_callvaults_own_stale_uploads_are_aborted() {
    let (place, s3) = (Place::s3().await, s3().await);
    let sweep = Sweep::of(&place.toml("documents"));
    let beside = format!("{}-beside/{KEY}", place.whole("").trim_end_matches('/'));
    let mut others = vec![beside.clone()];
    for key in [
        "backup.tar",
        "2023/08/24/notes.txt",
        "x/2023/08/24/c/r/recording.wav",
    ] {
        others.push(place.whole(key));
    }
    for key in others.iter().chain([&place.whole(KEY)]) {
        s3.begin_upload(S3::BUCKET, key).await;
    }
    let left = async || s3.list_uploads(S3::BUCKET, &place.whole("")).await.len();
    assert_eq!(left().await, 4);

    // By default nothing younger than a day is touched.
    let (code, outcomes, bucket) = sweep.json(&[]).await;
    assert_eq!((code, outcomes.len()), (0, 0));
    assert_eq!(
        (&bucket["found"], &bucket["left"], &bucket["not_ours"]),
        (&1.into(), &1.into(), &3.into())
    );

    let (code, outcomes, _) = sweep.json(&["--older-than", "0s", "--dry-run"]).await;
    assert_eq!((code, left().await), (0, 4));
    assert_eq!(outcomes, [(KEY.to_owned(), "would remove".to_owned())]);

    let (code, outcomes, bucket) = sweep.json(&["--older-than", "0s"]).await;
    assert_eq!(code, 0, "{bucket}");
    assert_eq!(outcomes, [(KEY.to_owned(), "removed".to_owned())]);
    assert_eq!(
        (&bucket["removed"], &bucket["left"]),
        (&1.into(), &0.into())
    );
    assert_eq!(left().await, 3);
    assert_eq!(
        s3.list_uploads(S3::BUCKET, &beside).await,
        std::slice::from_ref(&beside)
    );
    assert!(!place.unfinished().await.contains(KEY));

    let output = sweep.run(&["--older-than", "0s"]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text,
        "documents: 0 unfinished, 0 removed, 0 too young or in use, 3 not callvault's, left alone\n"
    );
}

#[tokio::test]
async fn an_upload_that_is_still_written_to_is_left_however_long_ago_it_was_begun() {
    let (place, s3) = (Place::s3().await, s3().await);
    let sweep = Sweep::of(&place.toml("documents"));
    let key = place.whole(KEY);
    let upload = s3.begin_upload(S3::BUCKET, &key).await;
    let age = ["--older-than", "4s"];
    let old = [&age[..], &["--dry-run"]].concat();
    eventually(
        Duration::from_secs(30),
        "the upload to be old",
        async || (sweep.json(&old).await.1.len() == 1).then_some(()),
    )
    .await;

    s3.put_part(S3::BUCKET, &key, &upload, 1).await;
    let (code, outcomes, bucket) = sweep.json(&age).await;
    assert_eq!(
        (code, &outcomes[0].1[..], &bucket["left"]),
        (0, "in use", &1.into())
    );
    assert_eq!(place.unfinished().await.len(), 1);

    eventually(
        Duration::from_secs(30),
        "its last part to be old",
        async || (sweep.json(&age).await.1[0].1 == "removed").then_some(()),
    )
    .await;
    assert!(place.unfinished().await.is_empty());
}

#[tokio::test]
async fn more_uploads_than_one_answer_lists_are_aborted_by_two_sweeps_at_once() {
    const UPLOADS: usize = 1050;
    let (place, s3) = (Place::s3().await, s3().await);
    let sweep = Sweep::of(&place.toml("documents"));
    for n in 0..UPLOADS {
        let key = format!("2023/08/24/call-{n}/request/recording.wav");
        s3.begin_upload(S3::BUCKET, &place.whole(&key)).await;
    }
    let age = ["--older-than", "0s"];
    let ((one, _, first), (two, _, second)) = tokio::join!(sweep.json(&age), sweep.json(&age));
    assert_eq!((one, two), (0, 0), "{first} {second}");
    assert!(
        first["found"] == UPLOADS || second["found"] == UPLOADS,
        "{first} {second}"
    );
    assert!(place.unfinished().await.is_empty());
}

#[tokio::test]
async fn what_a_killed_worker_has_left_is_swept() {
    let (place, origin) = (Place::s3().await, Origin::start().await);
    let proxy = Lossy::before(&place.endpoint().unwrap()).await;
    // The store takes the parts, and then neither completes nor aborts the upload.
    proxy.refuse("POST", "uploadId=", 503);
    proxy.refuse("DELETE", "uploadId=", 503);
    let sweep = Sweep::of(&place.toml_behind("documents", &proxy));
    origin.put("/recording.wav", vec![7; 65 << 20], "audio/x-wav");
    let event = sweep.config.with_file_name("event.json");
    fs::write(&event, call::with_urls(&[&origin.url("/recording.wav")])).unwrap();
    let mut archive = command();
    archive
        .arg("archive")
        .arg("--config")
        .arg(&sweep.config)
        .arg(&event);
    let mut worker = Worker::spawn(archive, sweep.config.parent().unwrap());
    worker.wait_log("does not work").await;
    eventually(
        Duration::from_secs(20),
        "an upload in the store",
        async || (!place.unfinished().await.is_empty()).then_some(()),
    )
    .await;
    worker.kill9();
    proxy.heal();

    let (code, outcomes, bucket) = sweep.json(&["--older-than", "0s"]).await;
    assert_eq!(code, 0, "{bucket}");
    assert!(
        !outcomes.is_empty() && outcomes.iter().all(|(_, outcome)| outcome == "removed"),
        "{outcomes:?}"
    );
    assert!(place.unfinished().await.is_empty());
}

#[tokio::test]
async fn a_folders_old_temporary_files_are_removed_and_no_link_is_followed() {
    let place = Place::folder();
    let (root, elsewhere) = (place.root(), place.spool().join("elsewhere"));
    let sweep = Sweep::of(&place.toml("documents"));
    let call = PathBuf::from(KEY).parent().unwrap().to_owned();
    for dir in [root.join(&call), elsewhere.join(&call)] {
        fs::create_dir_all(dir).unwrap();
    }
    let write = |path: PathBuf, age: Duration| {
        let file = File::create_new(path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    write(root.join(format!("{KEY}#1")), 2 * DAY);
    write(root.join(call.join("manifest.json#12")), 2 * DAY);
    let kept = [
        (format!("{KEY}#2"), Duration::from_mins(30)),
        (KEY.to_owned(), 2 * DAY),
        (format!("{KEY}#draft"), 2 * DAY),
        ("notes#1".to_owned(), 2 * DAY),
        (format!("backup/{KEY}#1"), 2 * DAY),
    ];
    fs::create_dir_all(root.join("backup").join(&call)).unwrap();
    for (name, age) in &kept {
        write(root.join(name), *age);
    }
    write(elsewhere.join(format!("{KEY}#1")), 2 * DAY);
    symlink(elsewhere.join("2023"), root.join("2022")).unwrap();
    symlink(
        elsewhere.join(format!("{KEY}#1")),
        root.join(format!("{KEY}#7")),
    )
    .unwrap();

    let (code, outcomes, bucket) = sweep.json(&["--dry-run"]).await;
    assert_eq!((code, outcomes.len(), &bucket["left"]), (0, 2, &1.into()));
    let (code, outcomes, bucket) = sweep.json(&[]).await;
    assert_eq!(
        (code, &bucket["removed"], &bucket["not_ours"]),
        (0, &2.into(), &2.into())
    );
    // Told by their own names: the recording itself stays.
    let manifest = call.join("manifest.json#12").to_str().unwrap().to_owned();
    let removed = |key: String| (key, "removed".to_owned());
    assert_eq!(outcomes, [removed(manifest), removed(format!("{KEY}#1"))]);

    for (name, _) in &kept {
        assert!(root.join(name).exists(), "{name}");
    }
    assert!(elsewhere.join(format!("{KEY}#1")).exists());
    assert!(!root.join(format!("{KEY}#1")).exists());
}

#[tokio::test]
async fn a_store_that_does_not_list_uploads_is_said_to_and_how_to_do_without() {
    for status in [403, 501] {
        let place = Place::s3().await;
        let proxy = Lossy::before(&place.endpoint().unwrap()).await;
        proxy.refuse("GET", "uploads", status);
        let sweep = Sweep::of(&place.toml_behind("documents", &proxy));
        let output = sweep.run(&[]).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(&status.to_string()) && text.contains("deploy/s3/lifecycle.json"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_upload_that_may_not_be_aborted_is_a_problem_and_one_that_is_gone_is_none() {
    let (place, s3) = (Place::s3().await, s3().await);
    s3.begin_upload(S3::BUCKET, &place.whole(KEY)).await;
    for (status, code, outcome) in [(403, 1, "failed"), (404, 0, "gone")] {
        let proxy = Lossy::before(&place.endpoint().unwrap()).await;
        proxy.refuse("DELETE", "uploadId=", status);
        let sweep = Sweep::of(&place.toml_behind("documents", &proxy));
        let (exit, outcomes, bucket) = sweep.json(&["--older-than", "0s"]).await;
        assert_eq!((exit, &outcomes[0].1[..]), (code, outcome), "{bucket}");
        assert_eq!(bucket["failed"], code);
    }
}

#[tokio::test]
async fn a_store_that_is_down_makes_a_sweep_exit_with_3_and_others_are_swept() {
    let folder = Place::folder();
    let old = folder.root().join(format!("{KEY}#1"));
    fs::create_dir_all(old.parent().unwrap()).unwrap();
    File::create(&old).unwrap();
    let nowhere = "[buckets.a_nowhere]\nurl = \"s3://b\"\noptions = { endpoint = \"http://127.0.0.1:1\", \
        allow_http = \"true\", region = \"x\", access_key_id = \"canary\", secret_access_key = \"canary\" }\n";
    let sweep = Sweep::of(&format!("{nowhere}{}", folder.toml("documents")));
    let output = sweep.run(&["--older-than", "0s"]).await;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("a_nowhere: ") && text.contains("documents: 1 unfinished, 1 removed"),
        "{text}"
    );
    assert!(
        !text.contains("canary") && !text.contains("X-Amz"),
        "{text}"
    );
    assert!(!old.exists());
}

#[tokio::test]
#[ignore = "needs tests/run --all-stores"]
async fn azure_drops_unfinished_uploads_itself_and_a_sweep_says_so() {
    let sweep = Sweep::of(&Place::azure().await.toml("documents"));
    let output = sweep.run(&[]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("after 7 days"), "{text}");
}

#[tokio::test]
#[ignore = "needs tests/run --all-stores"]
async fn an_unfinished_upload_to_google_is_aborted() {
    let place = Place::google().await;
    let url = format!(
        "{}/callvault-it/{}?uploads",
        place.endpoint().unwrap(),
        place.whole(KEY)
    );
    crate::support::http_client()
        .post(url)
        .send()
        .await
        .unwrap();
    let sweep = Sweep::of(&place.toml("documents"));
    assert_eq!(sweep.json(&[]).await.2["left"], 1);
    let (code, outcomes, _) = sweep.json(&["--older-than", "0s"]).await;
    assert_eq!((code, &outcomes[0].1[..]), (0, "removed"));
    assert!(place.unfinished().await.is_empty());
}

#[tokio::test]
async fn the_lifecycle_rule_is_taken_by_a_store_from_another_client() {
    let s3 = s3().await;
    let bucket = format!("it-{}", uuid::Uuid::new_v4().simple());
    s3.create_bucket(&bucket).await;
    let script = r#"
import boto3, json, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1",
                  aws_access_key_id="any", aws_secret_access_key="any")
rules = json.load(open(sys.argv[3]))
s3.put_bucket_lifecycle_configuration(Bucket=sys.argv[2], LifecycleConfiguration=rules)
kept = s3.get_bucket_lifecycle_configuration(Bucket=sys.argv[2])["Rules"][0]
print(kept["Status"], kept["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"])
"#;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/s3/lifecycle.json");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let python = target.parent().unwrap().join("venv/bin/python");
    let output = Command::new(python)
        .args(["-c", script, s3.endpoint(), &bucket, file])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said.trim(),
        "Enabled 2",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
