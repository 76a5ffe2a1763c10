//! Whom callvault trusts with TLS: the platform's authorities, and those of `SSL_CERT_FILE` beside them, for its
//! downloads, its stores and its broker alike.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    connecting::certificates,
    support::{
        amqp::Amqp,
        call,
        config::{BUCKETS, Setup},
        origin::Origin,
        s3::S3,
        servers,
        tls::Tls,
        worker::{Worker, command},
    },
};

/// The name in the certificate, which is the address.
const NAME: &str = "127.0.0.1";

/// An origin, a store and a broker behind TLS, and a configuration that leads to them.
struct Scene {
    setup: Setup,
    origin: Origin,
    download: Tls,
    store: Tls,
    broker: Tls,
}

impl Scene {
    /// With the certificates of these authorities' folders, in that order.
    async fn new([download, store, broker]: [&Path; 3], name: &str) -> Self {
        let origin = Origin::start().await;
        let at = |url: &str| {
            let authority = url.split("//").nth(1).unwrap().split('/').next().unwrap();
            authority.rsplit('@').next().unwrap().to_owned()
        };
        let download = Tls::before(&at(&origin.url("")), download, name).await;
        let store = Tls::old_before(&at(servers::s3().await.endpoint()), store, name).await;
        let url = servers::rabbit().await;
        let broker = Tls::before(&at(url), broker, name).await;
        let url = format!("amqps://guest:guest@{}/%2f", broker.address());
        let mut setup = Setup::new(&url);
        setup.set("fetch", "allow_http", "false");
        for bucket in BUCKETS {
            setup.append(&format!(
                "[buckets.{bucket}]\nurl = \"s3://{}/{}\"\noptions = {{ endpoint = \"https://{}\", region = \"us-east-1\", \
                 access_key_id = \"any\", secret_access_key = \"any\" }}\n",
                S3::BUCKET,
                setup.prefix(bucket),
                store.address(),
            ));
        }
        Self {
            setup,
            origin,
            download,
            store,
            broker,
        }
    }

    fn event(&self) -> Vec<u8> {
        let event = String::from_utf8(call::served(&self.origin).to_vec()).unwrap();
        let secure = format!("https://{}", self.download.address());
        event.replace(&self.origin.url(""), &secure).into_bytes()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command
            .args(arguments)
            .arg("--config")
            .arg(self.setup.write());
        command
    }

    async fn archives(&self, run: Command) {
        let worker = Worker::spawn(run, self.setup.dir());
        worker.wait_log("consuming").await;
        let amqp = Amqp::connect(servers::rabbit().await).await;
        amqp.publish(&self.setup.exchange(), "call.analyzed", None, &self.event())
            .await;
        worker.wait_log("outcome=\"archived\"").await;
        for (what, tls) in [
            ("download", &self.download),
            ("store", &self.store),
            ("broker", &self.broker),
        ] {
            assert!(tls.sessions() > 0, "{what}: past TLS");
        }
    }
}

fn authority() -> TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    certificates(dir.path());
    dir
}

fn ca(dir: &TempDir) -> PathBuf {
    dir.path().join("ca.pem")
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_for_downloads_store_and_broker() {
    let dir = authority();
    let scene = Scene::new([dir.path(); 3], NAME).await;
    let mut run = scene.command(&["run"]);
    run.env("SSL_CERT_FILE", ca(&dir));
    scene.archives(run).await;
}

#[tokio::test]
async fn the_platforms_authorities_are_trusted_beside_it() {
    let (platform, own) = (authority(), authority());
    for trusted in [
        [&platform, &own, &own],
        [&own, &platform, &own],
        [&own, &own, &platform],
    ] {
        let scene = Scene::new(trusted.map(TempDir::path), NAME).await;
        let run = scene.command(&["run"]);
        // The platform's folder of authorities holds another one for this process alone.
        let mut there = Command::new("unshare");
        there
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount -t tmpfs tmpfs /etc/ssl/certs && cp \"$1\" /etc/ssl/certs/platform.pem && shift && exec \"$@\"")
            .arg("sh")
            .arg(ca(&platform))
            .arg(run.get_program())
            .args(run.get_args())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("SSL_CERT_FILE", ca(&own));
        scene.archives(there).await;
    }
}

#[tokio::test]
async fn nobody_else_is_trusted_and_nobody_under_another_name() {
    let (dir, stranger) = (authority(), authority());
    // The certificate of a worker's name is not that of the address.
    for (trusted, name) in [
        (None, NAME),
        (Some(ca(&stranger)), NAME),
        (Some(ca(&dir)), "callvault-worker"),
    ] {
        let scene = Scene::new([dir.path(); 3], name).await;
        let with = |mut command: Command| {
            command.envs(trusted.as_ref().map(|file| ("SSL_CERT_FILE", file)));
            command
        };
        let mut check = with(scene.command(&["check", "--connect"]));
        let output = tokio::task::spawn_blocking(move || check.output().unwrap());
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(3));
        let said = String::from_utf8(output.stdout).unwrap();
        let refused = said
            .lines()
            .filter(|line| line.starts_with("FAIL") && line.contains("certificate"));
        assert_eq!(refused.count(), 1 + BUCKETS.len(), "{said}");

        let file = scene.setup.dir().join("event.json");
        fs::write(&file, scene.event()).unwrap();
        let mut there = Setup::new("amqp://127.0.0.1:1/%2f");
        for bucket in BUCKETS {
            there.append(&format!(
                "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
            ));
        }
        let mut archive = with(command());
        archive
            .args(["archive", "--json"])
            .arg(&file)
            .arg("--config")
            .arg(there.write());
        let output = tokio::task::spawn_blocking(move || archive.output().unwrap());
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for attachment in report["attachments"].as_array().unwrap() {
            assert_eq!(attachment["problem"], "tls", "{report}");
        }
        assert_eq!(report["attachments"].as_array().unwrap().len(), 3);
        let sessions = [&scene.download, &scene.store, &scene.broker].map(Tls::sessions);
        assert_eq!(sessions, [0; 3], "{said}");
    }
}
