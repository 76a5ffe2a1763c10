//! What an input costs: memory and time have bounds, whatever it declares.

use std::{fs, time::Duration};

use peak_alloc::PeakAlloc;

// Counts every allocation of this process.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// More than any input takes, in a build without optimisation; what is quadratic takes more.
const LONGEST: Duration = Duration::from_secs(2);

/// Does what must not keep the processor busy for long.
pub(crate) fn in_time(work: impl FnOnce()) {
    let before = busy();
    work();
    let took = busy().saturating_sub(before);
    assert!(took < LONGEST, "took {took:?}");
}

/// What `work` returns, and the most memory that it had allocated at once, in bytes.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let done = work();
    (done, HEAP.peak_usage().saturating_sub(before))
}

/// How long this thread has had a processor: on a busy machine, time says nothing.
fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
