//! What a store's answers tell of its clock: requests are signed with the time, and refused where that is wrong.

use std::{cell::Cell, time::SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{DATE, HeaderMap};

tokio::task_local! {
    /// How far the store's clock is ahead, by the answer that says least.
    static AHEAD: Cell<Option<TimeDelta>>;
}

/// Does something with a store, and tells how far its clock is ahead, by its answers.
pub(super) async fn listening<F: Future>(call: F) -> (F::Output, Option<TimeDelta>) {
    let heard = async {
        let done = call.await;
        (done, AHEAD.with(Cell::get))
    };
    AHEAD.scope(Cell::new(None), heard).await
}

/// Takes note of an answer's `Date`, where somebody listens.
pub(super) fn heard(headers: &HeaderMap) {
    let _nobody = AHEAD.try_with(|ahead| {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
            return;
        };
        let now = DateTime::<Utc>::from(SystemTime::now());
        let told = DateTime::<Utc>::from(date) - now;
        // It is in whole seconds, and has been on its way: the nearest is the truest.
        let nearer = ahead.get().is_none_or(|other| told.abs() < other.abs());
        if nearer {
            ahead.set(Some(told));
        }
    });
}
