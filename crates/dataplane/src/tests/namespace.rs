//! Tests against the kernel, each in a network namespace of its own, without root.

use std::os::unix::process::CommandExt;
use std::process::Command;

use portolan_netlink::rtnetlink::Rtnetlink;

const INSIDE: &str = "PORTOLAN_TEST_NAMESPACE";

/// Runs `body` in a fresh network namespace: the test with the path `test` is started again as a
/// process of its own that enters one first. A new user namespace stands in for root.
pub(crate) fn run(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        body();
        return;
    }
    let mut command = Command::new(std::env::current_exe().expect("this test's binary"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    // Others that use iptables-legacy on this machine have other tables.
    let lock = std::env::temp_dir().join(format!("{test}-{}.lock", std::process::id()).replace(':', "-"));
    command.env("XTABLES_LOCKFILE", &lock);
    // SAFETY: geteuid and getegid only return numbers.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ];
    // SAFETY: the closure runs in the child between fork and exec; it makes system calls and
    // touches only memory that was prepared before.
    unsafe {
        command.pre_exec(move || {
            // A network namespace belongs to whoever root is when it is made.
            let unshare = |what| match libc::unshare(what) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            unshare(libc::CLONE_NEWUSER)?;
            maps.iter().try_for_each(|(path, map)| std::fs::write(path, map))?;
            unshare(libc::CLONE_NEWNET)
        });
    }
    let output = command.output().expect("a child in new namespaces (are unprivileged user namespaces on?)");
    let _ = std::fs::remove_file(&lock);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{test} in its namespace: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Brings up the loopback interface of this namespace.
pub(crate) fn loopback_up() {
    let mut kernel = Rtnetlink::open().expect("a socket");
    let loopback = kernel.link("lo").expect("an answer").expect("every namespace has it");
    kernel.set_up(loopback.index, true).expect("lo can be set up");
}
