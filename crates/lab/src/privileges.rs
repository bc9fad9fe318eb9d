//! What programs that give up root run into in a user namespace.

use std::io;

/// The value of `arch` that system calls of this program come with (linux/audit.h); none where it
/// is not known here.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// From here on, setgroups(2) succeeds in this process and its children, and does nothing.
///
/// The kernel forbids it in a user namespace whose creator had no privileges (user_namespaces(7)).
/// Programs that are started by root, such as tcpdump, call it to drop privileges and end if they
/// cannot, even if flags ask them to stay root. Here there is nothing to drop: root is nobody
/// outside. Needs CAP_SYS_ADMIN, which whoever enters a lab has.
pub(crate) fn ignore_setgroups() -> io::Result<()> {
    let Some(architecture) = ARCHITECTURE else { return Ok(()) };
    let Ok(setgroups) = u32::try_from(libc::SYS_setgroups) else { return Ok(()) };
    // Offsets in struct seccomp_data (linux/seccomp.h).
    let (number, arch) = (0, 4);
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let end = libc::BPF_RET | libc::BPF_K;
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        // The codes are single bytes.
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let mut program = [
        instruction(load, 0, 0, arch),
        instruction(equal, 0, 3, architecture),
        instruction(load, 0, 0, number),
        instruction(equal, 0, 1, setgroups),
        // An error of number 0 is success.
        instruction(end, 0, 0, libc::SECCOMP_RET_ERRNO),
        instruction(end, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until the call returns, and checks it.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
