//! Name resolution under guard: one look-up, each address judged, and the connection goes to a judged
//! one. No second look-up follows that could answer differently (DNS rebinding).
//!
//! A name may be one whose servers never answer, and then the C library waits for many seconds, long
//! after whoever asked has given up. So look-ups have threads of their own: in the runtime's pool they
//! would keep out the work on files of every other job. And a name has one look-up at a time: who
//! tries it again waits with it. A look-up may outlive the download that began it, so with ever new names
//! that nobody answers for there can be more of them than downloads.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::watch;

use super::{guard::Guard, threads::STACK};

/// The system's resolver, less the addresses that the guard refuses.
pub(super) struct Guarded {
    guard: Arc<Guard>,
    look_ups: LookUps,
}

impl Guarded {
    pub(super) fn new(guard: Arc<Guard>) -> Self {
        Self {
            guard,
            look_ups: LookUps::default(),
        }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.guard);
        let look_up = self.look_ups.begin(name.as_str());
        Box::pin(async move {
            let found = finished(look_up?).await?;
            let mut refusal = None;
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| match guard.judge_address(address.ip()) {
                    Ok(()) => true,
                    Err(forbidden) => {
                        refusal = Some(forbidden);
                        false
                    }
                })
                .collect();
            match refusal {
                Some(forbidden) if allowed.is_empty() => Err(forbidden.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// What a look-up found, for each who waits for it; nothing yet while it is under way.
type Found = Option<Result<Vec<SocketAddr>, Failed>>;

/// Why a look-up failed: what of an [`io::Error`] can be told more than once.
#[derive(Clone)]
struct Failed {
    os: Option<i32>,
    words: String,
}

/// The look-ups under way, by name.
#[derive(Clone, Default)]
struct LookUps(Arc<Mutex<HashMap<String, watch::Receiver<Found>>>>);

impl LookUps {
    /// Begins a look-up, or joins the one of the same name that is under way.
    fn begin(&self, name: &str) -> io::Result<watch::Receiver<Found>> {
        let mut under_way = self.lock();
        let there = under_way.get(name);
        // One whose thread is gone without a word is under way no more.
        if let Some(look_up) = there.filter(|look_up| look_up.has_changed().is_ok()) {
            return Ok(look_up.clone());
        }
        let (sender, receiver) = watch::channel(None);
        let (all, own) = (self.clone(), name.to_owned());
        thread::Builder::new()
            .name("look-up".into())
            .stack_size(STACK)
            .spawn(move || {
                // Port 0: the connector puts in the URL's.
                let found = (own.as_str(), 0).to_socket_addrs();
                // Whoever comes from now on looks anew.
                all.lock().remove(&own);
                sender.send_replace(Some(found.map(Iterator::collect).map_err(Failed::from)));
            })?;
        under_way.insert(name.to_owned(), receiver.clone());
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Receiver<Found>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the end of a look-up.
async fn finished(mut look_up: watch::Receiver<Found>) -> io::Result<Vec<SocketAddr>> {
    let found = look_up.wait_for(Option::is_some).await;
    let found = found.map_err(io::Error::other)?.clone();
    found.unwrap_or_else(|| Ok(Vec::new())).map_err(Into::into)
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self {
            os: error.raw_os_error(),
            words: error.to_string(),
        }
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        // The number tells a lack of files, which is this machine's fault, from a name's.
        match failed.os {
            Some(number) => Self::from_raw_os_error(number),
            None => Self::other(failed.words),
        }
    }
}
