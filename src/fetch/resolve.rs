//! Name resolution under guard: one look-up, each address judged, and the connection goes to a judged
//! one. No second look-up follows that could answer differently (DNS rebinding).

use std::{net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::Guard;

/// The system's resolver, less the addresses that the guard refuses.
pub(super) struct Guarded(Arc<Guard>);

impl Guarded {
    pub(super) fn new(guard: Arc<Guard>) -> Self {
        Self(guard)
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = Arc::clone(&self.0);
        Box::pin(async move {
            // Port 0: the connector puts in the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut refusal = None;
            let allowed: Vec<SocketAddr> = found
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
