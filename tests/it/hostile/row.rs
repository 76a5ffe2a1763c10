//! A row of the table, and the words in which scripts are written.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio_rustls::rustls::ServerConfig;

use crate::support::script::{Act, Server};

/// Quick tries of what may pass.
const TRIES: usize = 3;

/// What a server does, and what is to come of it.
pub(super) struct Row {
    pub(super) name: &'static str,
    scripts: Vec<Vec<Act>>,
    tls: Option<Arc<ServerConfig>>,
    /// The scheme of the URL, where it is not the server's.
    pub(super) scheme: Option<&'static str>,
    pub(super) expect: Expect,
    pub(super) connections: usize,
    pub(super) requests: Option<usize>,
    /// The most bytes that the client may take of the server's, buffers of the system's included.
    pub(super) takes: Option<u64>,
    /// What the problem's detail says.
    pub(super) said: Option<&'static str>,
}

/// What is to become of an attachment.
pub(super) enum Expect {
    /// It is archived, and has exactly these bytes.
    Archived(Bytes),
    /// It could not be had, for this reason.
    Problem(&'static str),
}

/// A server that plays this script on each connection. What may pass is tried three times.
pub(super) fn refused(name: &'static str, script: Vec<Act>, code: &'static str) -> Row {
    let may_pass = matches!(
        code,
        "connect" | "timeout" | "tls" | "body_incomplete" | "http_503" | "http_511"
    );
    Row::new(name, script, Expect::Problem(code)).connections(if may_pass { TRIES } else { 1 })
}

/// A server that is odd, but whose file is whole.
pub(super) fn taken(name: &'static str, script: Vec<Act>, bytes: impl AsRef<[u8]>) -> Row {
    let bytes = Bytes::copy_from_slice(bytes.as_ref());
    Row::new(name, script, Expect::Archived(bytes))
}

impl Row {
    fn new(name: &'static str, script: Vec<Act>, expect: Expect) -> Self {
        let asked = matches!(script.first(), Some(Act::Read));
        Self {
            name,
            scripts: vec![script],
            tls: None,
            scheme: None,
            expect,
            connections: 1,
            requests: asked.then_some(1),
            takes: None,
            said: None,
        }
    }

    /// So many connections, and a request on each where the script takes one in.
    pub(super) fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self.requests = self.requests.map(|_| connections);
        self
    }

    pub(super) fn requests(mut self, requests: usize) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Another script for the connections after the first.
    pub(super) fn then(mut self, script: Vec<Act>) -> Self {
        self.scripts.push(script);
        self
    }

    pub(super) fn takes(mut self, bytes: u64) -> Self {
        self.takes = Some(bytes);
        self
    }

    pub(super) fn said(mut self, words: &'static str) -> Self {
        self.said = Some(words);
        self
    }

    pub(super) fn tls(mut self, tls: &Arc<ServerConfig>) -> Self {
        self.tls = Some(Arc::clone(tls));
        self
    }

    pub(super) fn scheme(mut self, scheme: &'static str) -> Self {
        self.scheme = Some(scheme);
        self
    }

    /// Its server. `{forbidden}` in what it says is the port that nobody may come to.
    pub(super) async fn serve(&self, forbidden: u16) -> Server {
        let port = forbidden.to_string();
        let fill = |act: &Act| match act {
            Act::Send(bytes) if bytes.len() < 4096 => Act::Send(fill(bytes, &port)),
            act => act.clone(),
        };
        let script = |script: &Vec<Act>| script.iter().map(fill).collect();
        let scripts = self.scripts.iter().map(script).collect();
        match &self.tls {
            None => Server::start(scripts).await,
            Some(tls) => Server::start_tls(scripts, Arc::clone(tls)).await,
        }
    }
}

fn fill(bytes: &Bytes, port: &str) -> Bytes {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains("{forbidden}") => text.replace("{forbidden}", port).into(),
        _ => bytes.clone(),
    }
}

pub(super) fn say(bytes: impl AsRef<[u8]>) -> Act {
    Act::Send(Bytes::copy_from_slice(bytes.as_ref()))
}

pub(super) fn flood(bytes: impl AsRef<[u8]>) -> Act {
    Act::Flood(Bytes::copy_from_slice(bytes.as_ref()))
}

/// Over and over, at some megabytes a second.
pub(super) fn steady(bytes: impl AsRef<[u8]>) -> Act {
    Act::Steady(
        Bytes::copy_from_slice(bytes.as_ref()),
        Duration::from_millis(5),
    )
}

/// Over and over, a byte every 0.3 s: each in time, all of them never.
pub(super) fn drip(bytes: impl AsRef<[u8]>) -> Act {
    Act::Drip(
        Bytes::copy_from_slice(bytes.as_ref()),
        Duration::from_millis(300),
    )
}

/// A request, and this for an answer.
pub(super) fn answer(bytes: impl AsRef<[u8]>) -> Vec<Act> {
    vec![Act::Read, say(bytes)]
}

/// A request, this for an answer, and what follows.
pub(super) fn answer_then(bytes: impl AsRef<[u8]>, then: Vec<Act>) -> Vec<Act> {
    let mut acts = answer(bytes);
    acts.extend(then);
    acts
}

/// `200` with these header lines, and a body.
pub(super) fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body.as_ref());
    bytes
}

/// A file as it should be sent.
pub(super) fn whole(body: &[u8]) -> Vec<Act> {
    answer(ok(&format!("Content-Length: {}\r\n", body.len()), body))
}
