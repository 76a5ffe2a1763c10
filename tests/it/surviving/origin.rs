//! The origin is down: its events' fault, and one that passes.

use super::{Scene, wait_times};
use crate::support::{
    audit::Explained,
    load::Load,
    proxy::{Mode, Proxy},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_cannot_be_fetched_while_its_origin_is_down_is_fetched_when_it_is_back() {
    let mut scene = Scene::new(0, 0).await;
    let proxy = Proxy::before(&scene.origin.url(""));
    scene.load = Load::new(&proxy.instead(&scene.origin.url("")), 12, 1);
    scene.load.serve(&scene.origin);
    // One delay after the other would be over before the test has seen the first: twice the last.
    scene
        .setup
        .set("queue", "retry_delays", r#"["200ms", "400ms", "1m"]"#);
    proxy.set(Mode::Refuse);
    let worker = scene.worker().await;
    scene.publish().await;
    wait_times(&worker, "outcome=\"retried\"", scene.load.calls.len()).await;
    proxy.set(Mode::Pass);
    scene
        .audit(
            [worker],
            Explained {
                charged: true,
                ..Explained::default()
            },
        )
        .await;
}
