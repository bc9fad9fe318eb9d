//! What programs that give up root run into in a lab.

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

/// What programs call to become another user or group (setuid(2), setresuid(2), setgroups(2) and
/// their kin).
const BECOMING_OTHERS: [libc::c_long; 7] = [
    libc::SYS_setgroups,
    libc::SYS_setgid,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setuid,
    libc::SYS_setreuid,
    libc::SYS_setresuid,
];

/// From here on, what would make another user of the calling thread and of the processes that it
/// starts succeeds, and does nothing.
///
/// A user namespace whose creator had no privileges has no other user, and the kernel forbids
/// setgroups(2) in it (user_namespaces(7)). Programs that are started by root, such as tcpdump,
/// call these to drop privileges, and end if they cannot. Here there is nobody else to become: root
/// is whoever has started the lab, with no other rights outside than before. Needs CAP_SYS_ADMIN,
/// which whoever is in a lab has.
pub(crate) fn stay_root() -> io::Result<()> {
    let Some(architecture) = ARCHITECTURE else { return Ok(()) };
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
    let calls: Vec<u32> = BECOMING_OTHERS.iter().filter_map(|call| u32::try_from(*call).ok()).collect();
    let count = u8::try_from(calls.len()).unwrap_or_default();
    let mut program = vec![
        instruction(load, 0, 0, arch),
        // Past what follows, to where everything is allowed.
        instruction(equal, 0, count + 1, architecture),
        instruction(load, 0, 0, number),
    ];
    program.extend((0..count).rev().zip(calls).map(|(left, call)| instruction(equal, left + 1, 0, call)));
    program.push(instruction(end, 0, 0, libc::SECCOMP_RET_ALLOW));
    // An error of number 0 is success.
    program.push(instruction(end, 0, 0, libc::SECCOMP_RET_ERRNO));
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until the call returns, and checks it.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
