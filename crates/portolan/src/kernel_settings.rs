//! Kernel settings at start: the size and timeouts of connection tracking, and how unlikely this
//! process is to be killed for want of memory (spec §8B).
//!
//! A setting is written only if it differs. Where kube-proxy gives up when one cannot be written
//! (spec §8.10), this goes on and says which, why and what to do: forwarding works without any of
//! them, and a proxy that restarts for ever helps nobody. Nothing is put back at exit (spec §8.11).
//!
//! Inside of a network namespace the kernel shows the timeouts of that namespace, and refuses to
//! change what belongs to all.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_config::Config;
use portolan_config::config::Conntrack;
use portolan_dataplane::Sysctl;
use tracing::{debug, warn};

/// More connections than this are not asked for (spec §8.8).
const MAX_CONNECTIONS: u32 = 1 << 20;

/// What became of one setting.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The file that is the setting.
    pub(crate) path: PathBuf,
    pub(crate) wanted: i64,
    /// The value before; `None` if it cannot be read as a number.
    pub(crate) found: Option<i64>,
    pub(crate) result: SettingResult,
    remedy: Remedy,
}

/// What to do about a setting that cannot be written.
#[derive(Debug)]
struct Remedy {
    /// Where it can be.
    elsewhere: &'static str,
    /// What to say in the configuration to leave it as it is.
    leave: String,
}

/// The settings of connection tracking stay when the process that wrote them is gone.
const PRIVILEGED: &str =
    "run the container privileged and in the host's network, or --init-only in an init container that is";

#[derive(Debug)]
pub(crate) enum SettingResult {
    /// It was so already.
    AsWanted,
    Written,
    Refused(io::Error),
}

impl Outcome {
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.result, SettingResult::Refused(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or_default().display();
        let wanted = self.wanted;
        let error = match (&self.result, self.found) {
            (SettingResult::AsWanted, Some(found)) => return write!(f, "{name} is {found}"),
            (SettingResult::AsWanted, None) => return write!(f, "{name} is {wanted}"),
            (SettingResult::Written, Some(found)) => return write!(f, "{name} set to {wanted}, was {found}"),
            (SettingResult::Written, None) => return write!(f, "{name} set to {wanted}"),
            (SettingResult::Refused(error), found) => {
                match found {
                    Some(found) => write!(f, "{name} stays {found}, wanted {wanted}: ")?,
                    None => write!(f, "{name} is not set, wanted {wanted}: ")?,
                }
                error
            }
        };
        let path = self.path.display();
        let Remedy { elsewhere, leave } = &self.remedy;
        match error.kind() {
            io::ErrorKind::NotFound => {
                write!(
                    f,
                    "there is no {path}; load the kernel module nf_conntrack (modprobe nf_conntrack), or set {leave}"
                )
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                write!(f, "{path} is on a read-only file system; {elsewhere}, or set {leave}")
            }
            io::ErrorKind::PermissionDenied => {
                write!(f, "writing {path} is not permitted; {elsewhere}, or set {leave}")
            }
            _ => write!(f, "writing {path}: {error}; {elsewhere}, or set {leave}"),
        }
    }
}

/// Sets what the configuration asks for, and logs what cannot be set.
pub(crate) fn apply(config: &Config) {
    let root = Path::new("/");
    let mut outcomes = apply_conntrack(root, &config.conntrack, processors(root));
    outcomes.push(apply_oom_score(root, config.oom_score_adj));
    for outcome in outcomes {
        if outcome.is_refused() { warn!("{outcome}") } else { debug!("{outcome}") }
    }
}

/// Sets what a mode needs.
pub(crate) fn apply_sysctls(sysctls: &[Sysctl]) {
    for sysctl in sysctls {
        let outcome = apply_sysctl(Path::new("/"), sysctl);
        if outcome.is_refused() { warn!("{outcome}") } else { debug!("{outcome}") }
    }
}

fn apply_sysctl(root: &Path, sysctl: &Sysctl) -> Outcome {
    let remedy = Remedy { elsewhere: PRIVILEGED, leave: sysctl.leave.to_owned() };
    set(root.join("proc/sys").join(sysctl.path), sysctl.value, remedy)
}

/// Whether the kernel takes packets outside of their TCP connection's window for valid (spec
/// §5.14).
pub(crate) fn tcp_is_liberal() -> bool {
    is_liberal(Path::new("/"))
}

/// Without the setting no packet is tracked, and none is invalid.
fn is_liberal(root: &Path) -> bool {
    let path = root.join("proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal");
    read(&path).is_ok_and(|found| found.is_some_and(|found| found != 0))
}

/// Sets what `conntrack` asks for, for a machine with this many processors. `root` is `/`, but in
/// tests.
///
/// Settings that are not there because the kernel module is not loaded yet are refused with
/// [`io::ErrorKind::NotFound`].
pub(crate) fn apply_conntrack(root: &Path, conntrack: &Conntrack, processors: u32) -> Vec<Outcome> {
    let sysctl = |name: &str| root.join("proc/sys/net/netfilter").join(name);
    let mut outcomes = Vec::new();
    if let Some(max) = max_connections(conntrack, processors) {
        let leave = || Remedy { elsewhere: PRIVILEGED, leave: "conntrack.maxPerCore: 0".to_owned() };
        // Whoever raised it knows the machine; 0 is no limit (nf_conntrack_core.c).
        let is_enough = |found| found == 0 || found >= i64::from(max);
        let outcome = set_unless(sysctl("nf_conntrack_max"), max.into(), leave(), is_enough);
        let in_force = !outcome.is_refused();
        outcomes.push(outcome);
        // Four connections a bucket are the kernel's own measure (spec §8.9).
        let hashsize = root.join("sys/module/nf_conntrack/parameters/hashsize");
        let buckets = i64::from(max / 4);
        if in_force && read(&hashsize).is_ok_and(|found| found.is_some_and(|found| found < buckets)) {
            outcomes.push(set(hashsize, buckets, leave()));
        }
    }
    let timeouts = [
        ("nf_conntrack_tcp_timeout_established", conntrack.tcp_established_timeout, "tcpEstablishedTimeout"),
        ("nf_conntrack_tcp_timeout_close_wait", conntrack.tcp_close_wait_timeout, "tcpCloseWaitTimeout"),
        ("nf_conntrack_udp_timeout", conntrack.udp_timeout, "udpTimeout"),
        ("nf_conntrack_udp_timeout_stream", conntrack.udp_stream_timeout, "udpStreamTimeout"),
    ];
    for (name, timeout, field) in timeouts.into_iter().filter(|(_, timeout, _)| *timeout > Duration::ZERO) {
        // Less than a second is not nothing: then no connection would be remembered.
        let seconds = i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX);
        let remedy = Remedy { elsewhere: PRIVILEGED, leave: format!("conntrack.{field}: 0s") };
        outcomes.push(set(sysctl(name), seconds, remedy));
    }
    if conntrack.tcp_be_liberal {
        let remedy = Remedy { elsewhere: PRIVILEGED, leave: "conntrack.tcpBeLiberal: false".to_owned() };
        outcomes.push(set(sysctl("nf_conntrack_tcp_be_liberal"), 1, remedy));
    }
    outcomes
}

/// Sets how unlikely this process is to be killed for want of memory (spec §8.12).
pub(crate) fn apply_oom_score(root: &Path, score: i32) -> Outcome {
    let path = root.join("proc/self/oom_score_adj");
    let found = read(&path).ok().flatten().unwrap_or_default();
    let remedy =
        Remedy { elsewhere: "grant the capability CAP_SYS_RESOURCE", leave: format!("oomScoreAdj: {found}") };
    set(path, score.into(), remedy)
}

/// How many processors are online, by sysfs, else as many as this process may use.
pub(crate) fn processors(root: &Path) -> u32 {
    let listed = fs::read_to_string(root.join("sys/devices/system/cpu/online")).ok();
    let usable = || std::thread::available_parallelism().map_or(1, usize::from);
    listed
        .and_then(|list| count(&list))
        .or_else(|| u32::try_from(usable()).ok())
        .filter(|processors| *processors > 0)
        .unwrap_or(1)
}

/// How many numbers a list such as `0-3,8` has (Documentation/admin-guide/cputopology.rst).
fn count(list: &str) -> Option<u32> {
    list.trim()
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .try_fold(0_u32, |sum, numbers| sum.checked_add(numbers?))
}

/// The limit of connections that is asked for; `None` to leave the kernel's (spec §8.8, §14.4).
fn max_connections(conntrack: &Conntrack, processors: u32) -> Option<u32> {
    if conntrack.max_per_core == 0 {
        return None;
    }
    match conntrack.max_per_core.saturating_mul(processors) {
        scaled if scaled > MAX_CONNECTIONS => Some(MAX_CONNECTIONS),
        scaled => Some(scaled.max(conntrack.min)),
    }
}

/// Writes a setting if it is another than `wanted`.
fn set(path: PathBuf, wanted: i64, remedy: Remedy) -> Outcome {
    set_unless(path, wanted, remedy, |found| found == wanted)
}

/// Writes a setting if `is_enough` does not hold for what it is.
fn set_unless(path: PathBuf, wanted: i64, remedy: Remedy, is_enough: impl Fn(i64) -> bool) -> Outcome {
    let found = read(&path);
    let result = match &found {
        Ok(Some(found)) if is_enough(*found) => SettingResult::AsWanted,
        Ok(_) => match write(&path, wanted) {
            Ok(()) => SettingResult::Written,
            Err(error) => SettingResult::Refused(error),
        },
        Err(error) => SettingResult::Refused(io::Error::new(error.kind(), error.to_string())),
    };
    Outcome { path, wanted, found: found.ok().flatten(), result, remedy }
}

/// The value of a setting; `None` if it is not a number.
fn read(path: &Path) -> io::Result<Option<i64>> {
    fs::read_to_string(path).map(|text| text.trim().parse().ok())
}

/// Settings are there or not: none is made by writing it.
fn write(path: &Path, value: i64) -> io::Result<()> {
    use io::Write;
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(value.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn conntrack() -> Conntrack {
        portolan_config::Config::default().conntrack
    }

    /// A root folder with these files.
    fn root(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn texts(outcomes: &[Outcome]) -> Vec<String> {
        outcomes.iter().map(ToString::to_string).collect()
    }

    const MAX: &str = "proc/sys/net/netfilter/nf_conntrack_max";
    const ESTABLISHED: &str = "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
    const CLOSE_WAIT: &str = "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
    const HASHSIZE: &str = "sys/module/nf_conntrack/parameters/hashsize";

    #[test]
    fn limits_of_connections() {
        for (name, max_per_core, min, processors, expected) in [
            ("§14.4: many processors", 32_768, 0, 512, Some(1_048_576)),
            ("§14.4: few processors", 32_768, 131_072, 2, Some(131_072)),
            ("§14.4: left as it is", 0, 131_072, 2, None),
            ("more than the least", 32_768, 131_072, 8, Some(262_144)),
            ("§8.8: the most, even if the least is more", 32_768, 2_000_000, 64, Some(1_048_576)),
            ("§8.8: a least that is more than the most", 32_768, 2_000_000, 2, Some(2_000_000)),
            ("too many to count", u32::MAX, 0, u32::MAX, Some(1_048_576)),
        ] {
            let conntrack = Conntrack { max_per_core, min, ..conntrack() };
            assert_eq!(max_connections(&conntrack, processors), expected, "{name}");
        }
    }

    #[test]
    fn processors_of_a_machine() {
        for (list, expected) in [
            ("0\n", Some(1)),
            ("0-1\n", Some(2)),
            ("0-3,8,10-11\n", Some(7)),
            ("", None),
            ("3-1", None),
            ("0-4294967295", None),
            ("a", None),
        ] {
            assert_eq!(count(list), expected, "{list:?}");
        }
        assert_eq!(processors(root(&[("sys/devices/system/cpu/online", "0-6\n")]).path()), 7);
        assert!(processors(root(&[]).path()) >= 1, "without sysfs");
    }

    #[test]
    fn only_what_differs_is_written() {
        let root =
            root(&[(MAX, "65536\n"), (HASHSIZE, "65536\n"), (ESTABLISHED, "86400\n"), (CLOSE_WAIT, "60\n")]);
        let written = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        let outcomes = apply_conntrack(root.path(), &conntrack(), 16);
        assert_eq!(
            texts(&outcomes),
            [
                "nf_conntrack_max set to 524288, was 65536",
                "hashsize set to 131072, was 65536",
                "nf_conntrack_tcp_timeout_established is 86400",
                "nf_conntrack_tcp_timeout_close_wait set to 3600, was 60",
            ]
        );
        assert_eq!([written(MAX), written(HASHSIZE), written(CLOSE_WAIT)], ["524288", "131072", "3600"]);
        assert_eq!(written(ESTABLISHED), "86400\n", "not touched");
        let again = apply_conntrack(root.path(), &conntrack(), 16);
        assert!(again.iter().all(|outcome| matches!(outcome.result, SettingResult::AsWanted)), "{again:?}");
    }

    #[test]
    fn the_limit_of_connections_is_never_lowered() {
        // Name, what it is, what it is then.
        for (name, found, expected) in [
            ("less than wanted", "65536\n", "524288"),
            ("as wanted", "524288\n", "524288\n"),
            ("more", "2097152\n", "2097152\n"),
            ("no limit", "0\n", "0\n"),
        ] {
            let root =
                root(&[(MAX, found), (HASHSIZE, "262144\n"), (ESTABLISHED, "86400"), (CLOSE_WAIT, "3600")]);
            let outcomes = apply_conntrack(root.path(), &conntrack(), 16);
            assert!(!outcomes[0].is_refused(), "{name}");
            assert_eq!(fs::read_to_string(root.path().join(MAX)).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_larger_hash_table_is_left() {
        let root =
            root(&[(MAX, "1000"), (HASHSIZE, "262144\n"), (ESTABLISHED, "86400"), (CLOSE_WAIT, "3600")]);
        apply_conntrack(root.path(), &conntrack(), 1);
        assert_eq!(fs::read_to_string(root.path().join(HASHSIZE)).unwrap(), "262144\n");
    }

    #[test]
    fn zeros_leave_everything() {
        let conntrack = Conntrack {
            max_per_core: 0,
            tcp_established_timeout: Duration::ZERO,
            tcp_close_wait_timeout: Duration::ZERO,
            ..conntrack()
        };
        assert!(apply_conntrack(root(&[]).path(), &conntrack, 2).is_empty());
    }

    #[test]
    fn all_that_can_be_asked_for() {
        let names = ["udp_timeout", "udp_timeout_stream", "tcp_be_liberal"];
        let files = names.map(|name| format!("proc/sys/net/netfilter/nf_conntrack_{name}"));
        let root = root(&files.each_ref().map(|path| (path.as_str(), "0")));
        let conntrack = Conntrack {
            max_per_core: 0,
            tcp_established_timeout: Duration::ZERO,
            tcp_close_wait_timeout: Duration::ZERO,
            tcp_be_liberal: true,
            udp_timeout: Duration::from_millis(300),
            udp_stream_timeout: Duration::from_millis(90_900),
            ..conntrack()
        };
        assert_eq!(
            texts(&apply_conntrack(root.path(), &conntrack, 2)),
            [
                "nf_conntrack_udp_timeout set to 1, was 0",
                "nf_conntrack_udp_timeout_stream set to 90, was 0",
                "nf_conntrack_tcp_be_liberal set to 1, was 0",
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_said() {
        let root = root(&[(ESTABLISHED, "86400"), (CLOSE_WAIT, "3600")]);
        let outcomes = apply_conntrack(root.path(), &conntrack(), 2);
        let path = root.path().join(MAX);
        assert_eq!(
            outcomes[0].to_string(),
            format!(
                "nf_conntrack_max is not set, wanted 131072: there is no {}; load the kernel module nf_conntrack \
                 (modprobe nf_conntrack), or set conntrack.maxPerCore: 0",
                path.display()
            )
        );
        assert!(!path.exists(), "nothing is made");
        assert_eq!(outcomes.len(), 3, "the rest is done all the same");
    }

    #[test]
    fn what_the_kernel_refuses_is_said() {
        // A setting of the real kernel that nobody may write, root included, and that is 65536.
        let root = root(&[(HASHSIZE, "1"), (ESTABLISHED, "86400"), (CLOSE_WAIT, "3600")]);
        let path = root.path().join(MAX);
        std::os::unix::fs::symlink("/proc/sys/kernel/ngroups_max", &path).unwrap();
        let outcomes = apply_conntrack(root.path(), &conntrack(), 2);
        assert_eq!(
            outcomes[0].to_string(),
            format!(
                "nf_conntrack_max stays 65536, wanted 131072: writing {} is not permitted; run the container privileged \
                 and in the host's network, or --init-only in an init container that is, or set \
                 conntrack.maxPerCore: 0",
                path.display()
            )
        );
        let hashsize = fs::read_to_string(root.path().join(HASHSIZE)).unwrap();
        assert_eq!(hashsize, "1", "no more buckets for connections that are not allowed");
    }

    #[test]
    fn settings_that_a_mode_needs() {
        let files = [
            ("proc/sys/net/ipv4/conf/all/route_localnet", "0\n"),
            ("proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", "1\n"),
        ];
        let root = root(&files);
        let sysctl = Sysctl {
            path: "net/ipv4/conf/all/route_localnet",
            value: 1,
            leave: "iptables.localhostNodePorts: false",
        };
        assert_eq!(apply_sysctl(root.path(), &sysctl).to_string(), "route_localnet set to 1, was 0");
        assert_eq!(apply_sysctl(root.path(), &sysctl).to_string(), "route_localnet is 1");
        assert!(is_liberal(root.path()), "spec §5.14");
        let elsewhere = self::root(&[("proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", "0\n")]);
        assert!(!is_liberal(elsewhere.path()));
        assert!(!is_liberal(self::root(&[]).path()), "without connection tracking");
    }

    #[test]
    fn scores() {
        let root = root(&[("proc/self/oom_score_adj", "0\n")]);
        assert_eq!(apply_oom_score(root.path(), -999).to_string(), "oom_score_adj set to -999, was 0");
        assert_eq!(apply_oom_score(root.path(), -999).to_string(), "oom_score_adj is -999");
        std::os::unix::fs::symlink("/proc/sys/kernel/ngroups_max", root.path().join("proc/self/x")).unwrap();
        fs::rename(root.path().join("proc/self/x"), root.path().join("proc/self/oom_score_adj")).unwrap();
        let refused = apply_oom_score(root.path(), -999).to_string();
        assert!(
            refused
                .ends_with("not permitted; grant the capability CAP_SYS_RESOURCE, or set oomScoreAdj: 65536"),
            "{refused}"
        );
        // What the kernel has for this process is fine with it.
        let real = read(Path::new("/proc/self/oom_score_adj")).unwrap().unwrap();
        let outcome = apply_oom_score(Path::new("/"), i32::try_from(real).unwrap());
        assert!(matches!(outcome.result, SettingResult::AsWanted));
    }
}
