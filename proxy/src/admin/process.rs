//! What Linux says about this process, for the `process_*` metrics.

use std::fs;

/// What `/proc` says. What it does not say is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// User and system time, seconds.
    pub cpu_seconds: Option<f64>,
    /// When it started, seconds since 1970.
    pub start_time: Option<f64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Bytes of memory in use.
    pub resident_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// How many descriptors it may open.
    pub max_fds: Option<u64>,
}

/// `USER_HZ`, what times in `/proc` are counted in: 100 a second on every Linux.
const TICKS: f64 = 100.0;

impl Process {
    /// Reads `/proc/self`.
    pub(super) fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &file("/proc/self/stat"),
            &file("/proc/self/status"),
            &file("/proc/self/limits"),
            &file("/proc/stat"),
        );
        process.open_fds = open_fds();
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is a name in parentheses, which may hold anything (proc(5)).
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks = |number: usize| -> Option<f64> {
            // proc(5) counts from 1, and the two fields before are gone.
            fields.split(' ').nth(number - 3)?.parse().ok()
        };
        let (user, kernel, started) = (ticks(14), ticks(15), ticks(22));
        let boot: Option<f64> = number_after(system, "btime ").map(|seconds| seconds as f64);
        Process {
            cpu_seconds: user.zip(kernel).map(|(user, kernel)| (user + kernel) / TICKS),
            start_time: boot.zip(started).map(|(boot, ticks)| boot + ticks / TICKS),
            virtual_bytes: number_after(status, "VmSize:").map(|kib| kib * 1024),
            resident_bytes: number_after(status, "VmRSS:").map(|kib| kib * 1024),
            threads: number_after(status, "Threads:"),
            open_fds: None,
            max_fds: number_after(limits, "Max open files"),
        }
    }
}

/// What the process has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Bytes of memory in use.
    pub resident: u64,
}

/// Reads that alone. None where there is no `/proc`.
pub(crate) fn usage() -> Option<Usage> {
    let file = |path: &str| fs::read_to_string(path).ok();
    let process = Process::parse(&file("/proc/self/stat")?, &file("/proc/self/status")?, "", "");
    Some(Usage { cpu_seconds: process.cpu_seconds?, resident: process.resident_bytes? })
}

/// Since Linux 6.2 the size of the directory is the number of entries. Before that it is 0.
fn open_fds() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        // Counting opens one more.
        0 => Some((fs::read_dir(DIRECTORY).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// The first number of the line that begins with `name`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 9 8 7 6 250 150 3 2 20 0 1 0 4200 99 88";
        let status = "Name:\ta) b\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let limits = "Max open files            1024                 4096                 files\n";
        let process = Process::parse(stat, status, limits, "cpu  1 2\nbtime 1000\n");
        assert_eq!(
            process,
            Process {
                cpu_seconds: Some(4.0),
                start_time: Some(1042.0),
                virtual_bytes: Some(2 << 20),
                resident_bytes: Some(1 << 20),
                threads: Some(3),
                open_fds: None,
                max_fds: Some(1024),
            }
        );
        assert_eq!(Process::parse("", "", "", ""), Process::default());
    }

    #[test]
    fn this_process_is_plausible() {
        let before = Process::read();
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null")).collect();
        let after = Process::read();
        assert_eq!(files.len(), 20);
        assert!(after.open_fds.unwrap() >= before.open_fds.unwrap() + 10);
        assert!(after.max_fds.unwrap() >= after.open_fds.unwrap());
        assert!(after.cpu_seconds.unwrap() >= before.cpu_seconds.unwrap());
        assert!(after.threads.unwrap() >= 2, "the test harness and the test");
        assert!(after.resident_bytes.unwrap() < after.virtual_bytes.unwrap());
        assert!(after.start_time.unwrap() > 1_500_000_000.0);
        let usage = usage().unwrap();
        assert!(usage.cpu_seconds >= after.cpu_seconds.unwrap());
        assert!(usage.resident > after.resident_bytes.unwrap() / 2);
    }
}
