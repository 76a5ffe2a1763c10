//! What the tests stand on: servers, an origin, clients that are not callvault's, and the worker.

#![allow(
    dead_code,
    reason = "a helper is written whole, though a test may not need all of it yet"
)]

pub(crate) mod amqp;
pub(crate) mod audit;
pub(crate) mod browser;
pub(crate) mod call;
pub(crate) mod collector;
pub(crate) mod config;
pub(crate) mod disk;
pub(crate) mod dns;
pub(crate) mod gateway;
pub(crate) mod gcs;
pub(crate) mod load;
pub(crate) mod lossy;
pub(crate) mod origin;
pub(crate) mod place;
pub(crate) mod proxy;
pub(crate) mod recorder;
pub(crate) mod s3;
pub(crate) mod script;
pub(crate) mod servers;
pub(crate) mod tls;
pub(crate) mod wait;
pub(crate) mod wire;
pub(crate) mod worker;
pub(crate) mod world;

/// A client for one test: its connections live on the test's runtime.
pub(crate) fn http_client() -> reqwest::Client {
    // Fails when another test of this process was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = reqwest::redirect::Policy::none();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(redirects)
        .build()
        .unwrap()
}
