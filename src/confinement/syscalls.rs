//! Some system calls are refused: starting programs, reaching into other processes, kernel interfaces that a proxy
//! never needs, and input for a terminal.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};

use super::error::Error;

/// Installs the seccomp filter (seccomp(2)). Refused calls fail with EPERM, which libraries expect; all other calls are
/// allowed. Under systemd the unit's own list of allowed calls is shorter still.
pub(super) fn confine() -> Result<(), Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // Raw and packet sockets, Bluetooth and whatever kernel modules bring along.
    let is_other = SOCKETS
        .iter()
        .map(|&family| {
            let family = u64::from(family.unsigned_abs());
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
        })
        .collect::<Result<Vec<_>, _>>()
        .and_then(SeccompRule::new)?;
    rules.insert(libc::SYS_socket, vec![is_other]);
    // A user namespace makes of nobody a root, by what unshare(2) is refused for.
    let namespaces = NAMESPACES
        .iter()
        .map(|&flag| {
            let flag = u64::from(flag.unsigned_abs());
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)
                .and_then(|condition| SeccompRule::new(vec![condition]))
        })
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_clone, namespaces);
    // The kernel looks at no more than 32 bits of the request.
    let requests = TERMINAL
        .iter()
        .map(|&request| {
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request)
                .and_then(|condition| SeccompRule::new(vec![condition]))
        })
        .collect::<Result<Vec<_>, _>>()?;
    rules.insert(libc::SYS_ioctl, requests);
    let arch = std::env::consts::ARCH.try_into().map_err(|_| Error::Processor)?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter(&[number_filter(), program].concat())?)
}

/// The filter before the rules, which compare whole numbers (struct seccomp_data, seccomp(2)):
///
/// - x86-64 has every call a second time for x32, by a number with one more bit and under the same name of the architecture.
///   None of them is used here.
/// - clone3(2) keeps its flags in memory, where a filter does not look. Where it is missing, C libraries use clone(2).
fn number_filter() -> BpfProgram {
    let statement =
        |code: u32, k: u32, jt: u8, jf: u8| sock_filter { code: code.try_into().unwrap_or_default(), jt, jf, k };
    let refuse =
        |errno: i32| statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(), 0, 0);
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(X32);
    vec![
        // The number of the call comes first in it.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32, 0, 1),
        refuse(libc::EPERM),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, clone3, 0, 1),
        refuse(libc::ENOSYS),
    ]
}

/// The bit of x32 calls, `__X32_SYSCALL_BIT`; no architecture has so many calls of its own.
const X32: u32 = 0x4000_0000;

/// Requests to terminals (ioctl_tty(2)) that inject input for the shell behind this process, or take over the console's
/// output or line discipline.
///
/// musl's headers declare them as int, the GNU C library's as unsigned long.
#[allow(clippy::unnecessary_cast)]
const TERMINAL: [u64; 4] = [libc::TIOCSTI as u64, libc::TIOCLINUX as u64, libc::TIOCCONS as u64, libc::TIOCSETD as u64];

/// The address families that are used: TCP over IPv4 and IPv6, systemd and the resolver, getifaddrs(3).
const SOCKETS: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Flags of clone(2) that make new namespaces.
const NAMESPACES: [i32; 6] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
];

/// Calls that start programs, reach into others, or change the system, and kernel interfaces that a proxy never needs.
const REFUSED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_personality,
    libc::SYS_open_by_handle_at,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Error;
    use std::os::fd::AsRawFd;

    /// The error of a call whose number or arguments make it fail in any case.
    fn error_of(call: i64, arguments: [u64; 3]) -> Option<i32> {
        #[allow(unsafe_code)]
        // SAFETY: no argument is a pointer that the kernel could follow.
        let result = unsafe { libc::syscall(call, arguments[0], arguments[1], arguments[2]) };
        assert_eq!(result, -1, "{call}");
        Error::last_os_error().raw_os_error()
    }

    /// Runs in a thread of its own, to which the filter applies.
    #[test]
    fn calls_of_x32_and_input_for_a_terminal_are_refused() {
        let confined = std::thread::spawn(|| {
            let null = File::open("/dev/null").unwrap();
            let file = u64::try_from(null.as_raw_fd()).unwrap();
            confine().unwrap();
            // execve, ptrace, execveat, io_uring_setup, and what has no x32 number of its own.
            for call in [520, 521, 545, 425, 59, 1, 0x3fff_ffff] {
                assert_eq!(error_of(call | i64::from(X32), [0; 3]), Some(libc::EPERM), "{call}");
            }
            for request in TERMINAL {
                assert_eq!(error_of(libc::SYS_ioctl, [file, request, 0]), Some(libc::EPERM), "{request:#x}");
                // Bits that the kernel does not look at.
                assert_eq!(error_of(libc::SYS_ioctl, [file, request | 1 << 32, 0]), Some(libc::EPERM), "{request:#x}");
            }
            assert_eq!(error_of(libc::SYS_ioctl, [file, libc::TCGETS, 0]), Some(libc::ENOTTY), "others go on");
            assert_eq!(error_of(libc::SYS_clone3, [0; 3]), Some(libc::ENOSYS));
            assert_eq!(error_of(libc::SYS_io_uring_setup, [0; 3]), Some(libc::EPERM));
            // Calls that the process needs still work.
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        });
        confined.join().unwrap();
    }
}
