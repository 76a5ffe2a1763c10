//! Deliveries that wait for a place.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

/// What waits, in the order in which it is due, and of arrival where that is the same.
///
/// As a rule nobody waits: the broker sends no more than there are places. But it counts those of one session,
/// and jobs outlive theirs; so after a broken connection up to twice as many are here.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    by_turn: BTreeMap<(DateTime<Utc>, u64), T>,
    arrivals: u64,
}

impl<T> Waiting<T> {
    pub(super) fn new() -> Self {
        Self {
            by_turn: BTreeMap::new(),
            arrivals: 0,
        }
    }

    pub(super) fn push(&mut self, due: DateTime<Utc>, delivery: T) {
        self.arrivals += 1;
        self.by_turn.insert((due, self.arrivals), delivery);
    }

    /// Whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.by_turn.pop_first().map(|(_, delivery)| delivery)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_turn.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_is_due_first_begins_first_and_else_what_came_first() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let mut waiting = Waiting::new();
        for (name, due) in [("d", 9), ("b", 3), ("e", 9), ("c", 3), ("a", 1)] {
            waiting.push(at(due), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!(order, ["a", "b", "c", "d", "e"]);
        assert!(waiting.is_empty());
    }
}
