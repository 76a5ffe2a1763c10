//! A real browser: Chromium without a window, spoken to by its driver (<https://www.w3.org/TR/webdriver2/>).

use std::{
    fs::{self, File},
    io::Write,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{http_client, wait::eventually};

/// For a browser to start on a busy machine, and for any answer of its.
const DEADLINE: Duration = Duration::from_mins(1);

/// One that looks for nothing in the world but what it is told to; without its sandbox, which is not for root.
const ARGUMENTS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--hide-scrollbars",
    // It ends with its driver, however that ends.
    "--remote-debugging-pipe",
];

/// A running browser with one empty tab; it ends with its value.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    client: Client,
    profile: TempDir,
}

impl Browser {
    /// # Panics
    ///
    /// Where there is none: `tests/run` installs it.
    pub(crate) async fn start() -> Self {
        let profile = tempfile::Builder::new()
            .prefix("browser-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let said = profile.path().join("driver.log");
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(File::create(&said).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .expect("no chromedriver: tests/run installs chromium and chromium-driver");
        let mut browser = Self {
            driver,
            port: port(said).await,
            session: String::new(),
            client: http_client(),
            profile,
        };
        browser.open().await;
        browser
    }

    async fn open(&mut self) {
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).into();
        let profile = self.profile.path().join("profile");
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let url = format!("http://127.0.0.1:{}/session", self.port);
        let opened = self.answer(&url, &wanted).await;
        self.session = opened["sessionId"].as_str().map(str::to_owned).unwrap();
    }

    /// Goes to a page, and waits until it is there.
    pub(crate) async fn go(&self, url: &str) {
        self.tell("url", json!({"url": url})).await;
    }

    /// What a function's body returns on the page. It runs beside the page's own policy.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let script = json!({"script": script, "args": []});
        self.tell("execute/sync", script).await
    }

    /// A text of the page, as a script finds it.
    pub(crate) async fn text(&self, script: &str) -> String {
        let found = self.run(script).await;
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Makes it a screen of so many points.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.cdp("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// Has its user prefer dark pages, or light ones.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.cdp("Emulation.setEmulatedMedia", features).await;
    }

    /// Turns the wheel as a person does: what a script scrolls is not kept over each load.
    pub(crate) async fn scroll(&self, by: u32) {
        let turn =
            json!({"type": "scroll", "x": 10, "y": 10, "deltaX": 0, "deltaY": by, "duration": 0});
        let wheel = json!({"actions": [{"type": "wheel", "id": "wheel", "actions": [turn]}]});
        self.tell("actions", wheel).await;
    }

    /// A picture of the page, as PNG, from its top to `height`.
    pub(crate) async fn picture(&self, width: u32, height: u32) -> Vec<u8> {
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let taken = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let taken = self.cdp("Page.captureScreenshot", taken).await;
        BASE64_STANDARD
            .decode(taken["data"].as_str().unwrap())
            .unwrap()
    }

    /// What its console has said since it was asked last.
    pub(crate) async fn console(&self) -> Vec<String> {
        self.log("browser")
            .await
            .iter()
            .map(Value::to_string)
            .collect()
    }

    /// The URLs that it has asked for since it was asked last, but for those within itself.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let events = self.log("performance").await;
        let url = |entry: &Value| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let message = &event["message"];
            let sent = message["method"] == "Network.requestWillBeSent";
            sent.then(|| Some(message["params"]["request"]["url"].as_str()?.to_owned()))?
        };
        let urls = events.iter().filter_map(url);
        urls.filter(|url| !url.starts_with("chrome:") && !url.starts_with("data:"))
            .collect()
    }

    async fn log(&self, of: &str) -> Vec<Value> {
        let entries = self.tell("se/log", json!({"type": of})).await;
        entries.as_array().unwrap().clone()
    }

    async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.tell(
            "goog/cdp/execute",
            json!({"cmd": command, "params": parameters}),
        )
        .await
    }

    async fn tell(&self, command: &str, parameters: Value) -> Value {
        let (port, session) = (self.port, &self.session);
        let url = format!("http://127.0.0.1:{port}/session/{session}/{command}");
        self.answer(&url, &parameters).await
    }

    async fn answer(&self, url: &str, parameters: &Value) -> Value {
        let request = self.client.post(url).body(parameters.to_string());
        let response = request.timeout(DEADLINE).send().await.unwrap();
        let status = response.status();
        let mut body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert!(status.is_success(), "{body:#}");
        body["value"].take()
    }
}

/// Any port, which the driver says.
async fn port(said: PathBuf) -> u16 {
    eventually(DEADLINE, "chromedriver to start", async || {
        let said = fs::read_to_string(&said).ok()?;
        let rest = said.split("successfully on port ").nth(1)?;
        rest.split('.').next()?.parse().ok()
    })
    .await
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes the browser before it answers; killed, it leaves that to the pipe between them.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let end = format!(
                "DELETE /session/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                self.session
            );
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = stream.write_all(end.as_bytes());
            let _ = std::io::Read::read(&mut stream, &mut [0; 1]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
