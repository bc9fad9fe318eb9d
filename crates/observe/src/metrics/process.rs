//! What the kernel knows of this process, under the names that Prometheus' clients share:
//! `process_*`.
//!
//! Read here and not by the metrics library, which counts processor time in whole seconds.

use prometheus::{Counter, Gauge, Registry};

use super::register::Register;

pub(super) struct Process {
    cpu: Counter,
    resident: Gauge,
    virtual_memory: Gauge,
    threads: Gauge,
    start_time: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    received: Counter,
    sent: Counter,
}

impl Process {
    pub(super) fn register(registry: &Registry) -> Process {
        let register = Register { registry, prefix: "process" };
        Process {
            cpu: register.counter("cpu_seconds_total", "Processor time used, user and system, in seconds"),
            resident: register.gauge("resident_memory_bytes", "Resident memory in bytes"),
            virtual_memory: register.gauge("virtual_memory_bytes", "Virtual memory in bytes"),
            threads: register.gauge("threads", "Threads"),
            start_time: register
                .gauge("start_time_seconds", "When the process started, in seconds since 1970"),
            open_fds: register.gauge("open_fds", "Open file descriptors"),
            max_fds: register.gauge("max_fds", "File descriptors that may be open"),
            received: register.counter(
                "network_receive_bytes_total",
                "Bytes that the process' network namespace has received",
            ),
            sent: register.counter(
                "network_transmit_bytes_total",
                "Bytes that the process' network namespace has sent",
            ),
        }
    }

    /// Reads everything anew. What cannot be read keeps its value.
    pub(super) fn update(&self) {
        let boot = std::fs::read_to_string("/proc/stat").ok().and_then(|stat| boot_time(&stat));
        if let Some(stat) =
            std::fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text))
        {
            let ticks = exact(rustix::param::clock_ticks_per_second());
            let used = exact(stat.cpu_ticks) / ticks;
            self.cpu.inc_by((used - self.cpu.get()).max(0.0));
            self.threads.set(exact(stat.threads));
            self.virtual_memory.set(exact(stat.virtual_bytes));
            self.resident.set(exact(stat.resident_pages) * exact(rustix::param::page_size() as u64));
            if let Some(boot) = boot {
                self.start_time.set(exact(boot) + exact(stat.start_ticks) / ticks);
            }
        }
        if let Ok(text) = std::fs::read_to_string("/proc/self/net/netstat") {
            for (counter, name) in [(&self.received, "InOctets"), (&self.sent, "OutOctets")] {
                if let Some(bytes) = ip_octets(&text, name) {
                    counter.inc_by((exact(bytes) - counter.get()).max(0.0));
                }
            }
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // Without the one that lists them.
            self.open_fds.set(exact(entries.count().saturating_sub(1) as u64));
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        self.max_fds.set(limit.current.map_or(f64::INFINITY, exact));
    }
}

/// Above 2^53, eight petabytes, a little is lost.
#[expect(clippy::cast_precision_loss)]
fn exact(value: u64) -> f64 {
    value as f64
}

/// The fields that are used of proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the program's name in parentheses, which may contain anything; the
        // third follows the last one.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// A counter of the protocol group `IpExt` of /proc/net/netstat: a line of names, then a line of
/// values.
fn ip_octets(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let position = names.split_ascii_whitespace().position(|known| known == name)?;
    values.split_ascii_whitespace().nth(position)?.parse().ok()
}

/// When the machine started, in seconds since 1970: the line `btime` of proc_stat(5).
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_moves_no_field() {
        let text = "42 (kube) proxy) S 1 1 1 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 7 0 1234 1048576 256 0";
        let expected = Stat {
            cpu_ticks: 300,
            threads: 7,
            start_ticks: 1234,
            virtual_bytes: 1_048_576,
            resident_pages: 256,
        };
        assert_eq!(Stat::parse(text), Some(expected));
    }

    #[test]
    fn what_is_cut_short_is_no_stat() {
        for text in ["", "42 (x", "42 (x) S 1 1", "42 (x) S a b c d e f g h i j k l m n o p q r s t u v"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn octets_stand_below_their_names() {
        let text = "TcpExt: SyncookiesSent\nTcpExt: 1\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 17 4\n";
        assert_eq!((ip_octets(text, "InOctets"), ip_octets(text, "OutOctets")), (Some(17), Some(4)));
        assert_eq!(ip_octets(text, "InMcastOctets"), None);
        assert_eq!(ip_octets("IpExt: InOctets\n", "InOctets"), None, "cut short");
    }
}
