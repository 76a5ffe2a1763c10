//! A proxy before a store, for what networks and lesser stores do: an answer is lost after the write took
//! effect, a header is not understood.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running proxy, one request a connection; it ends with its value.
pub(crate) struct Lossy {
    url: String,
    rules: Arc<Mutex<Rules>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Rules {
    /// Method, a part of the head, and how many answers are still to be lost.
    lose: Vec<(&'static str, &'static str, usize)>,
    lost: usize,
    strip: Vec<&'static str>,
    refuse: Vec<(&'static str, &'static str, u16)>,
    refused: usize,
    ahead: i64,
}

impl Lossy {
    /// Before a server, `http://HOST:PORT`.
    pub(crate) async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let rules = Arc::new(Mutex::new(Rules::default()));
        let shared = Arc::clone(&rules);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (server, rules) = (server.clone(), Arc::clone(&shared));
                // A peer that goes away is what this is for.
                tokio::spawn(async move { serve(client, &server, &rules).await });
            }
        });
        Self {
            url: format!("http://{address}"),
            rules,
            task,
        }
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Loses the answers to the next requests of a method with a text in their head. The server gets
    /// them whole, and answers, before the client's connection is cut.
    pub(crate) fn lose(&self, method: &'static str, part: &'static str, times: usize) {
        self.rules.lock().unwrap().lose.push((method, part, times));
    }

    /// How many requests were refused.
    pub(crate) fn refused(&self) -> usize {
        self.rules.lock().unwrap().refused
    }

    /// Loses and refuses nothing any more, and says how many answers were lost since the last time.
    pub(crate) fn heal(&self) -> usize {
        let mut rules = self.rules.lock().unwrap();
        rules.lose.clear();
        rules.refuse.clear();
        std::mem::take(&mut rules.lost)
    }

    /// Takes a header, in lower case, out of every request.
    pub(crate) fn strip(&self, header: &'static str) {
        self.rules.lock().unwrap().strip.push(header);
    }

    /// Has the server's clock go ahead by so many seconds, or behind.
    pub(crate) fn ahead(&self, seconds: i64) {
        self.rules.lock().unwrap().ahead = seconds;
    }

    /// Answers requests of a method with a text in their head with a status, and keeps them to itself.
    pub(crate) fn refuse(&self, method: &'static str, part: &'static str, status: u16) {
        self.rules
            .lock()
            .unwrap()
            .refuse
            .push((method, part, status));
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, server: &str, rules: &Mutex<Rules>) -> io::Result<()> {
    let (head, mut body) = read_head(&mut client).await?;
    let mut lines = head.split("\r\n");
    let request = lines.next().unwrap_or_default().to_owned();
    let named = |line: &str| line.split(':').next().unwrap().to_ascii_lowercase();
    let headers: Vec<&str> = lines.collect();
    let length = headers
        .iter()
        .find(|line| named(line) == "content-length")
        .map_or(0, |line| {
            line.split(':').nth(1).unwrap().trim().parse().unwrap()
        });
    let read = body.len();
    body.resize(length, 0);
    client.read_exact(&mut body[read.min(length)..]).await?;

    let is = |method: &str, part: &str| request.starts_with(method) && head.contains(part);
    let (stripped, refused) = {
        let mut rules = rules.lock().unwrap();
        let refused = rules
            .refuse
            .iter()
            .find(|(method, part, _)| is(method, part));
        let refused = refused.map(|(.., status)| *status);
        rules.refused += usize::from(refused.is_some());
        (rules.strip.clone(), refused)
    };
    if let Some(status) = refused {
        let answer =
            format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    }
    let kept = headers.iter().filter(|line| {
        let name = named(line);
        name != "connection" && !stripped.contains(&name.as_str())
    });
    let kept: String = kept.flat_map(|line| [*line, "\r\n"]).collect();
    let mut upstream = TcpStream::connect(server).await?;
    let head = format!("{request}\r\n{kept}connection: close\r\n\r\n");
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(&body).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;

    let lose = {
        let mut rules = rules.lock().unwrap();
        if rules.ahead != 0 {
            answer = later(&answer, rules.ahead);
        }
        let due = rules
            .lose
            .iter_mut()
            .find(|(method, part, left)| *left > 0 && is(method, part));
        let lose = due.is_some_and(|(.., left)| {
            *left -= 1;
            true
        });
        rules.lost += usize::from(lose);
        lose
    };
    if lose {
        return Ok(());
    }
    client.write_all(&answer).await?;
    client.shutdown().await
}

/// An answer whose `Date` is so many seconds later.
fn later(answer: &[u8], seconds: i64) -> Vec<u8> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, rest) = answer.split_at(end.unwrap());
    let lines = std::str::from_utf8(head)
        .unwrap()
        .split("\r\n")
        .map(|line| {
            let Some((name, date)) = line.split_once(": ") else {
                return line.to_owned();
            };
            if !name.eq_ignore_ascii_case("date") {
                return line.to_owned();
            }
            let date = DateTime::<Utc>::from(httpdate::parse_http_date(date).unwrap());
            let date = date + TimeDelta::seconds(seconds);
            format!("date: {}", httpdate::fmt_http_date(date.into()))
        });
    let head = lines.collect::<Vec<_>>().join("\r\n");
    [head.as_bytes(), rest].concat()
}

/// A request's head without its end, and what has come of its body.
async fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            read.truncate(end);
            return Ok((String::from_utf8(read).unwrap(), body));
        }
        if client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
