//! What Prometheus' own clients tell of a process, under the same names: dashboards look for those. Where there is no
//! `/proc` they are 0.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{Counter, Gauge, IntGauge, Registry};
use rustix::process::{Resource, getrlimit};

/// What Linux counts processor time in, wherever it shows it to programs (`USER_HZ`).
const TICKS_A_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    open_fds: IntGauge,
    max_fds: IntGauge,
    resident: IntGauge,
    cpu: Counter,
}

impl Process {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let cpu = Counter::new(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
        )?;
        registry.register(Box::new(cpu.clone()))?;
        let start = Gauge::new(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
        )?;
        registry.register(Box::new(start.clone()))?;
        // These are made as the process begins.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        start.set(now.unwrap_or_default().as_secs_f64());
        Ok(Self {
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
            max_fds: gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            )?,
            resident: gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            )?,
            cpu,
        })
    }

    pub(super) fn look(&mut self) {
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // But for the one that they are counted through.
            let open = open.count().saturating_sub(1);
            self.open_fds.set(i64::try_from(open).unwrap_or(i64::MAX));
        }
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        self.max_fds.set(i64::try_from(most).unwrap_or(i64::MAX));
        if let Some(bytes) = resident() {
            self.resident.set(bytes);
        }
        if let Some(seconds) = cpu_seconds() {
            // A counter can only be added to, and not less than nothing.
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
    }
}

/// The memory that this process has, in bytes.
pub(crate) fn resident() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, in brackets, and may hold anything; the fourteenth is the time as a user's.
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = fields.map_while(|ticks| ticks.parse::<f64>().ok());
    Some((ticks.next()? + ticks.next()?) / TICKS_A_SECOND)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_knows_its_files_its_memory_and_its_processor_time() {
        let mut process = Process::new(&Registry::new()).unwrap();
        process.look();
        let open = process.open_fds.get();
        assert!((3..1000).contains(&open), "{open}");
        // Other tests of this process open and close some meanwhile.
        let more = [(); 200].map(|()| fs::File::open("/dev/null").unwrap());
        process.look();
        assert!(process.open_fds.get() >= open + 100);
        drop(more);
        assert!(process.max_fds.get() >= process.open_fds.get());
        assert!(process.resident.get() > 1 << 20);
        let (before, start) = (process.cpu.get(), Instant::now());
        while process.cpu.get() < before + 0.05 {
            assert!(start.elapsed() < Duration::from_secs(20), "no time passes");
            process.look();
        }
    }
}
