//! Is the guard before the origins in force?

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;
use url::Url;

use super::Finding;
use crate::{
    body::Budget,
    fetch::{FetchError, Fetcher},
};

const WHAT: &str = "origin guard";

/// Where no download may lead: this machine, networks of one's own, a cloud's metadata service.
const NOT_PUBLIC: [&str; 8] = [
    "127.0.0.1",
    "10.0.0.1",
    "192.168.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "::1",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
];
/// Where downloads may lead.
const PUBLIC: [&str; 2] = ["1.1.1.1", "2606:4700:4700::1111"];

/// For an attempt that is to be refused before anything is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Judges addresses by the guard as it is configured, and tries one download that it has to refuse.
pub async fn origins(fetcher: &Fetcher, budget: &Budget, allow_private: bool) -> Vec<Finding> {
    let judged = |address: &&str| {
        let address: Result<IpAddr, _> = address.parse();
        address.is_ok_and(|address| fetcher.guard().judge_address(address).is_ok())
    };
    let passed: Vec<&str> = NOT_PUBLIC.into_iter().filter(judged).collect();
    let stopped: Vec<&str> = PUBLIC.into_iter().filter(|a| !judged(a)).collect();
    if !stopped.is_empty() {
        return vec![bug(format!(
            "refuses public addresses: {}",
            stopped.join(", ")
        ))];
    }
    if allow_private {
        // Which the configuration asks for, and is told of there.
        return vec![Finding::ok(
            WHAT,
            format!(
                "fetch.allow_private_addresses lets downloads lead to {} and the like",
                passed.join(", ")
            ),
        )];
    }
    if !passed.is_empty() {
        return vec![bug(format!("lets downloads lead to {}", passed.join(", ")))];
    }
    vec![match refused(fetcher, budget).await {
        Ok(()) => Finding::ok(
            WHAT,
            format!(
                "{} addresses that are not public are refused, and so is a download from localhost",
                NOT_PUBLIC.len()
            ),
        ),
        Err(why) => bug(format!("does not refuse a download from localhost: {why}")),
    }]
}

/// By its name, so that look-up, guard and connection are those of any download.
async fn refused(fetcher: &Fetcher, budget: &Budget) -> Result<(), String> {
    let url = Url::parse("https://localhost/").map_err(|error| error.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    match fetcher
        .fetch(&url, 1, budget, deadline, &std::sync::Arc::default())
        .await
    {
        Err(FetchError::Forbidden(_)) => Ok(()),
        // A machine without that name leads nowhere with it.
        Err(FetchError::Connect(why)) if why.contains("lookup") => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("it answered".into()),
    }
}

fn bug(detail: String) -> Finding {
    Finding::fail(WHAT, detail, "a bug: do not run this, and report it")
}
