//! The page at `/`, as a person sees it: in a real browser, wide and narrow, dark and light, while a load runs, while
//! the store is down, and while the worker stops.
//!
//! With `CALLVAULT_IT_PICTURES=DIR` the load lasts some minutes, so that there is something to see, and what is seen is
//! left in `DIR` as PNG files: `CALLVAULT_IT_PICTURES=/tmp cargo test --test it browsing::a_person`. `browsing/page.png`
//! is from there.

use std::{env, fs, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    amqp::Amqp,
    browser::Browser,
    call,
    config::{BUCKETS, Setup},
    http_client,
    load::{Call, Load},
    origin::{Origin, Reply},
    proxy::{Mode, Proxy},
    s3::S3,
    servers,
    wait::eventually,
    worker::{Worker, command},
};

const DEADLINE: Duration = Duration::from_mins(1);
/// Where pictures are left, if anywhere.
const PICTURES: &str = "CALLVAULT_IT_PICTURES";
const WIDE: u32 = 1280;
const NARROW: u32 = 360;
/// Events whose recordings come a bit at a time, for longer than the test takes.
const SLOW: usize = 6;

/// What must never be on the page: a store's secrets, the broker's, a URL's signature, telephone numbers, what was said.
const SECRETS: [&str; 8] = [
    "canary",
    "guest",
    "Signature",
    "recording.wav?",
    "4244023931",
    "2183925232",
    "hangup",
    "INBOUND",
];

/// What a person sees of an element.
const HEADLINE: &str = "return document.querySelector('.headline').innerText";
const ALL: &str = "return document.body.innerText";

/// The contrast of each text against what it stands on (WCAG 2.2, 1.4.3): those below what is asked for.
const PALE: &str = r"
    const parse = (text) => text.match(/[\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (element) => {
        for (; element; element = element.parentElement) {
            const colour = parse(getComputedStyle(element).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
    };
    const pale = [];
    for (const element of document.body.querySelectorAll('*')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own) continue;
        const two = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
        const contrast = (two[0] + 0.05) / (two[1] + 0.05);
        if (contrast < 4.5) pale.push(`${element.tagName}.${element.className} ${contrast}: ${element.innerText}`);
    }
    return pale;";

/// What is wider than the screen.
const BEYOND: &str = r"
    const page = document.documentElement;
    const wide = [...document.querySelectorAll('body *')]
        .filter((element) => element.getBoundingClientRect().right > page.clientWidth + 0.5
            && !element.closest('thead'))
        .map((element) => `${element.tagName}.${element.className}: ${element.innerText ?? ''}`);
    return page.scrollWidth <= page.clientWidth ? wide : ['the page', ...wide];";

/// What one finds who does not see it: headings in order, drawings with words, cells with their roles.
const UNTOLD: &str = r"
    const untold = [];
    const levels = [...document.querySelectorAll('h1, h2, h3')].map((heading) => Number(heading.tagName[1]));
    levels.reduce((before, level) => { if (level > before + 1) untold.push(`h${level} after h${before}`); return level; }, 0);
    if (document.querySelectorAll('h1').length !== 1) untold.push('not one h1');
    for (const name of ['header', 'main', 'footer'])
        if (document.querySelectorAll(`body > ${name}`).length !== 1) untold.push(`not one ${name}`);
    for (const drawing of document.querySelectorAll('svg'))
        if (!drawing.getAttribute('aria-label') && drawing.getAttribute('aria-hidden') !== 'true') untold.push('a drawing');
    for (const section of document.querySelectorAll('section'))
        if (!section.getAttribute('aria-label') && !document.getElementById(section.getAttribute('aria-labelledby')))
            untold.push('a section without a name');
    for (const cell of document.querySelectorAll('table, thead, tbody, tr, th, td'))
        if (!cell.getAttribute('role')) untold.push(`${cell.tagName} without a role`);
    if (!document.documentElement.lang || !document.title) untold.push('no language or title');
    return untold;";

struct Scene {
    setup: Setup,
    store: Proxy,
    origin: Origin,
    load: Load,
    amqp: Amqp,
}

impl Scene {
    async fn new(events: usize) -> Self {
        let broker = servers::rabbit().await;
        let mut setup = Setup::new(broker);
        let endpoint = servers::s3().await.endpoint().to_owned();
        let store = Proxy::before(&endpoint);
        for bucket in BUCKETS {
            let (url, at) = (setup.prefix(bucket), store.instead(&endpoint));
            setup.append(&format!(
                "[buckets.{bucket}]\nurl = \"s3://{}/{url}\"\noptions = {{ endpoint = \"{at}\", region = \"us-east-1\", \
                 allow_http = \"true\", access_key_id = \"canary-id\", secret_access_key = \"canary-key\" }}\n",
                S3::BUCKET
            ));
        }
        setup
            .set("queue", "prefetch", "12")
            .set("fetch", "read_timeout", "\"30s\"")
            .set("limits", "job_time", "\"10m\"");
        if pictures().is_some() {
            // As in production.
            setup.set("queue", "name", "\"callvault\"");
        }
        let origin = Origin::start().await;
        let mut load = Load::new(&origin.url(""), events, 0);
        load.serve(&origin);
        for (index, call) in load.calls.iter_mut().enumerate() {
            let body = String::from_utf8(call.body.to_vec()).unwrap();
            let signed = body.replace("recording.wav\"", "recording.wav?X-Amz-Signature=canary\"");
            assert_ne!(body, signed);
            let mut event: Value = serde_json::from_str(&signed).unwrap();
            if index == 0 && pictures().is_none() {
                // As long as an id may be, in one word.
                event["data"]["id"] = json!("x".repeat(128));
            }
            call.body = event.to_string().into();
            misbehave(&origin, call, index);
        }
        Self {
            setup,
            store,
            origin,
            load,
            amqp: Amqp::connect(broker).await,
        }
    }

    fn worker(&self) -> Worker {
        let mut run = command();
        run.args(["run", "--grace", "45s", "--config"])
            .arg(self.setup.write());
        Worker::spawn(run, self.setup.dir())
    }

    /// A load for pictures: it lasts so many seconds, is now more and now less, and its slow ones come late.
    async fn pose(&self, lasts: usize, slow: &[Call], quick: &[Call]) {
        let (mut slow, mut quick) = (slow.iter(), quick.iter());
        for second in 0..lasts {
            let some = if second % 150 < 100 {
                3 + second % 11
            } else {
                1 + second % 5
            };
            for call in quick.by_ref().take(some) {
                self.publish(std::slice::from_ref(call)).await;
            }
            let left = lasts - second;
            if left.is_multiple_of(17) && left <= 17 * SLOW {
                self.publish(slow.next().map_or(&[], std::slice::from_ref))
                    .await;
            }
            // It is no condition that is awaited: this is who sits for a portrait.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn publish(&self, calls: &[Call]) {
        for call in calls {
            call.publish(&self.amqp, &self.setup.exchange()).await;
        }
    }
}

/// The first ones are slow; of the others, some lack a file, and some have a broken one.
fn misbehave(origin: &Origin, call: &Call, index: usize) {
    let recording = &call.files[1];
    if index < SLOW {
        let bytes = recording.bytes.len().div_ceil(900 + 100 * index);
        let pause = Duration::from_millis(400);
        origin.always(&recording.path, Reply::Drip { bytes, pause });
    } else if index > 40 && !index.is_multiple_of(10) {
        // Of a load for pictures most are well.
    } else if index.is_multiple_of(29) {
        origin.always(&call.files[0].path, Reply::Status(404));
    } else if index.is_multiple_of(31) {
        origin.put(&call.files[2].path, "{", "application/json");
    }
}

/// A person before the page.
struct Person {
    browser: Browser,
    /// `http://127.0.0.1:PORT/`
    page: String,
}

impl Person {
    /// Looks again and again until a script's text holds this.
    async fn sees(&self, script: &str, text: &str) -> String {
        eventually(DEADLINE, &format!("{text:?} on the page"), async || {
            self.browser.go(&self.page).await;
            let seen = self.browser.text(script).await;
            seen.contains(text).then_some(seen)
        })
        .await
    }

    /// All that holds of the page whatever it tells, on a screen and a telephone, dark and light; and a picture of each.
    async fn inspects(&self, name: &str) {
        for (size, width, height) in [("wide", WIDE, 900), ("narrow", NARROW, 740)] {
            self.browser.resize(width, height).await;
            for path in ["?still", ""] {
                self.browser.go(&format!("{}{path}", self.page)).await;
                for (what, script) in [("wider than the screen", BEYOND), ("untold", UNTOLD)] {
                    let found = self.browser.run(script).await;
                    assert_eq!(found, json!([]), "{what} at {width} on /{path}");
                }
                for scheme in ["dark", "light"] {
                    self.browser.prefer(scheme).await;
                    let pale = self.browser.run(PALE).await;
                    assert_eq!(pale, json!([]), "pale, {scheme}, on /{path}");
                }
                let source = self
                    .browser
                    .text("return document.documentElement.outerHTML")
                    .await;
                for secret in SECRETS {
                    let around = source
                        .find(secret)
                        .map(|at| &source[at.saturating_sub(99)..]);
                    assert_eq!(around, None, "{secret} is on the page");
                }
            }
            let all = "return document.documentElement.scrollHeight";
            self.picture(&format!("{name}-{size}"), width, all).await;
        }
        if name == "load" && pictures().is_some() {
            // Of the page's upper half, for the README.
            self.browser.resize(960, 900).await;
            self.browser.go(&self.page).await;
            let end = "return Math.ceil(document.querySelector('.charts').getBoundingClientRect().bottom) + 8";
            self.picture("page", 960, end).await;
        }
        self.browser.resize(WIDE, 900).await;
        assert_eq!(self.browser.console().await, [""; 0], "on the console");
        let of_page = |url: &String| *url == self.page || *url == format!("{}?still", self.page);
        let asked = self.browser.requests().await;
        assert!(
            !asked.is_empty() && asked.iter().all(of_page),
            "it asks for {asked:?}"
        );
        let loaded = "return performance.getEntriesByType('resource').map((entry) => entry.name)";
        assert_eq!(self.browser.run(loaded).await, json!([]));
    }

    /// Down to where a script says, if pictures are asked for.
    async fn picture(&self, name: &str, width: u32, end: &str) {
        let Some(dir) = pictures() else { return };
        let height = self.browser.run(end).await;
        let height = u32::try_from(height.as_u64().unwrap()).unwrap();
        let picture = self.browser.picture(width, height).await;
        fs::write(dir.join(format!("{name}.png")), picture).unwrap();
    }
}

fn pictures() -> Option<PathBuf> {
    env::var_os(PICTURES).map(PathBuf::from)
}

/// The age of the oldest event on the page, in seconds.
async fn oldest(browser: &Browser) -> u64 {
    let age = browser
        .text("return document.querySelector('td.age').innerText")
        .await;
    let mut words = age.split_whitespace();
    let mut seconds = 0;
    while let (Some(number), Some(unit)) = (words.next(), words.next()) {
        let number: u64 = number.parse().unwrap_or(0);
        seconds += if unit == "min" { 60 * number } else { number };
    }
    seconds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_person_on_call_sees_the_load_and_the_outage_and_the_end_in_a_browser() {
    let lasts = if pictures().is_some() { 240 } else { 0 };
    let scene = Scene::new(40 + 8 * lasts).await;
    let (worker, browser) = (scene.worker(), Browser::start().await);
    worker.wait_log("consuming").await;
    let page = format!("http://{}/", worker.address());
    let person = Person { browser, page };

    person.sees(HEADLINE, "Consuming: nothing in flight").await;
    person.inspects("idle").await;

    // The load.
    let (calls, last) = scene.load.calls.split_at(scene.load.calls.len() - 4);
    let (slow, quick) = calls.split_at(SLOW);
    if lasts == 0 {
        scene.publish(calls).await;
    } else {
        scene.pose(lasts, slow, quick).await;
    }
    let flying = format!("{SLOW} events in flight, of at most 12");
    person.sees(HEADLINE, &flying).await;
    for text in [
        "6 fetching recording",
        "died in the last 15 minutes",
        "http_404",
        "json_syntax",
        "bucket recordings",
    ] {
        person.sees(ALL, text).await;
    }
    let drawn = "return document.querySelectorAll('.chart svg rect:not(.base)').length";
    eventually(DEADLINE, "a chart", async || {
        person.browser.go(&person.page).await;
        (person.browser.run(drawn).await.as_u64() > Some(3)).then_some(())
    })
    .await;
    person.inspects("load").await;

    // It is new by itself, and stays where it was read.
    let before = oldest(&person.browser).await;
    person.browser.scroll(300).await;
    let place = "return scrollY";
    let mut here = json!(0);
    eventually(DEADLINE, "the page to be scrolled", async || {
        let before = std::mem::replace(&mut here, person.browser.run(place).await);
        (here != 0 && here == before).then_some(())
    })
    .await;
    let loaded = "return performance.timeOrigin";
    let first = person.browser.run(loaded).await;
    eventually(DEADLINE, "the page to be new by itself", async || {
        (person.browser.run(loaded).await != first).then_some(())
    })
    .await;
    eventually(DEADLINE, "the page to be where it was", async || {
        (person.browser.run(place).await == here).then_some(())
    })
    .await;
    let after = oldest(&person.browser).await;
    assert!(
        (before + 2..before + 60).contains(&after),
        "{before}, then {after}"
    );

    // The store is down.
    scene.store.set(Mode::Refuse);
    scene.publish(last).await;
    person.sees(HEADLINE, "Waiting for bucket ").await;
    let seen = person.sees(ALL, "waiting for bucket ").await;
    assert!(
        seen.contains("does not work") && seen.contains("no attempt is charged"),
        "{seen}"
    );
    person.inspects("store-down").await;
    scene.store.set(Mode::Pass);
    person.sees(HEADLINE, &flying).await;

    // It stops.
    worker.term();
    let seen = person.sees(HEADLINE, "Stopping: 6 events left, ").await;
    assert!(seen.ends_with("s of grace"), "{seen}");
    person.inspects("stopping").await;
    for call in slow {
        assert_eq!(scene.origin.hits(call.recording()), 1);
    }
}

#[tokio::test]
async fn the_page_is_read_only_and_answers_to_nobody_who_asks_by_a_strangers_name() {
    let setup = Setup::folders().await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let (client, page) = (http_client(), format!("http://{}/", worker.address()));
    let answer = client.get(&page).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("script") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.text().await.unwrap().contains(setup.queue()));
    for path in ["", "?still", "?call=<script>"] {
        let stranger = client
            .get(format!("{page}{path}"))
            .header("host", "attacker.example:9090");
        let answer = stranger.send().await.unwrap();
        assert_eq!(answer.status(), 421);
        let text = answer.text().await.unwrap();
        assert!(
            !text.contains(setup.queue()) && !text.contains("script"),
            "{text}"
        );
        let posted = client.post(format!("{page}{path}")).send().await.unwrap();
        assert_eq!(posted.status(), 405);
    }
    // What Prometheus and an orchestrator ask for is theirs by any name.
    for path in ["livez", "readyz", "metrics"] {
        let asked = client
            .get(format!("{page}{path}"))
            .header("host", "worker.example:9090");
        assert_eq!(asked.send().await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(
        call::ANALYZED.matches("4244023931").count(),
        1,
        "what is looked for on the page"
    );
}
