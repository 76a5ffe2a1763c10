use std::pin::Pin;

use chrono::TimeDelta;
use futures_util::FutureExt;

use super::*;

const KIB: u64 = 1 << 10;

/// 64 KiB, of which 16 are kept for shares of at most 8.
fn pool() -> Pool {
    Pool::new(64 * KIB, 16 * KIB, 8 * KIB)
}

fn at(minutes: i64) -> DateTime<Utc> {
    IN_TURN + TimeDelta::minutes(minutes)
}

/// Somebody who waits for a share, as one finds out by asking.
struct Waits<'a>(Pin<Box<dyn Future<Output = io::Result<Share>> + 'a>>);

impl<'a> Waits<'a> {
    /// # Panics
    ///
    /// Where there is nothing to wait for.
    fn new(pool: &'a Pool, kib: u64, due: DateTime<Utc>) -> Self {
        let mut waits = Self(Box::pin(pool.take(kib * KIB, due)));
        assert!(waits.served().is_none(), "{kib} KiB at once");
        waits
    }

    fn served(&mut self) -> Option<Share> {
        self.0.as_mut().now_or_never().map(Result::unwrap)
    }
}

fn take(pool: &Pool, kib: u64) -> Share {
    pool.try_take(kib * KIB).expect("no wait")
}

#[test]
fn who_is_due_first_is_served_first_and_nobody_passes_by() {
    let pool = pool();
    let held = take(&pool, 48);
    let mut later = Waits::new(&pool, 12, at(2));
    let mut last = Waits::new(&pool, 12, at(2));
    let mut first = Waits::new(&pool, 40, at(1));
    // What is free is for the first, who needs more.
    assert!(pool.try_take(12 * KIB).is_none());
    drop(held);
    let share = first.served().expect("the first to be served");
    assert!(later.served().is_none() && last.served().is_none());
    drop(share);
    assert!(later.served().is_some() && last.served().is_some());
}

#[test]
fn those_who_are_due_together_are_served_in_the_order_of_arrival() {
    let pool = Pool::new(4 * KIB, 0, 0);
    let mut held = take(&pool, 4);
    let mut waiting: Vec<_> = (0..5).map(|_| Waits::new(&pool, 4, IN_TURN)).collect();
    for n in 0..5 {
        drop(held);
        for late in &mut waiting[n + 1..] {
            assert!(late.served().is_none());
        }
        held = waiting[n].served().expect("its turn");
    }
}

#[test]
fn large_shares_leave_room_for_small_ones() {
    let pool = pool();
    let _held = take(&pool, 48);
    assert!(pool.try_take(12 * KIB).is_none(), "not for large ones");
    let small = [8, 4, 4].map(|kib| take(&pool, kib));
    assert!(pool.try_take(4 * KIB).is_none(), "there is no more");
    drop(small);
    assert_eq!(pool.free(), 16 * KIB);
}

#[test]
fn small_shares_pass_by_a_large_one_that_waits_and_do_not_keep_it_waiting() {
    let pool = pool();
    let held = take(&pool, 40);
    let mut large = Waits::new(&pool, 44, at(0));
    // It needs 44 of 64: they have 20 between them, and no more as long as it waits.
    let small = [8, 8, 4].map(|kib| take(&pool, kib));
    let mut too_many = Waits::new(&pool, 4, at(1));
    drop(held);
    let large = large.served().expect("the large one to be served");
    assert!(too_many.served().is_none());
    drop(small);
    assert!(too_many.served().is_some());
    drop(large);
}

#[test]
fn what_needs_the_whole_pool_gets_it_alone() {
    let pool = pool();
    let small = take(&pool, 4);
    let mut whole = Waits::new(&pool, 1000, at(0));
    assert!(pool.try_take(4 * KIB).is_none(), "it would wait for ever");
    drop(small);
    let whole = whole.served().expect("all of it");
    assert_eq!((whole.bytes(), pool.free()), (64 * KIB, 0));
}

#[test]
fn who_gives_up_holds_up_nobody_and_leaves_nothing_behind() {
    let pool = pool();
    let held = take(&pool, 40);
    let impatient = Waits::new(&pool, 48, at(0));
    let mut next = Waits::new(&pool, 8 + 4, at(1));
    // Large ones have 48: eight are left, and the next needs twelve.
    drop(impatient);
    assert!(next.served().is_none());
    let mut modest = Waits::new(&pool, 16, at(0));
    drop(next);
    drop(held);
    // Served while it was not looked at, and then dropped.
    assert_eq!(pool.free(), 48 * KIB);
    drop(modest.served());
    let unseen = {
        let held = take(&pool, 48);
        let unseen = Waits::new(&pool, 48, at(0));
        drop(held);
        unseen
    };
    assert_eq!(pool.free(), 16 * KIB);
    drop(unseen);
    assert_eq!(pool.free(), 64 * KIB);
}

#[test]
fn a_share_that_grows_becomes_a_large_one_and_one_that_shrinks_a_small_one() {
    let pool = pool();
    let mut share = take(&pool, 8);
    let other = take(&pool, 40);
    assert!(!share.try_grow(4 * KIB), "large ones have 48 together");
    assert_eq!(share.bytes(), 8 * KIB);
    drop(other);
    assert!(share.try_grow(40 * KIB));
    let mut waits = Waits::new(&pool, 12, at(0));
    share.shrink(5 * KIB);
    assert_eq!(share.bytes(), 8 * KIB);
    assert!(waits.served().is_some());
    drop(share);
    assert_eq!(pool.free(), 64 * KIB);
}
