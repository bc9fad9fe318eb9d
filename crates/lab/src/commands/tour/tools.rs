//! The programs of the machine that tours run, and the packages that have them.

use std::path::{Path, PathBuf};

use super::story::Step;

/// Programs that may be missing, with their packages in Debian. kubectl has a stand-in.
const PACKAGES: [(&str, &str); 8] = [
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("iptables-restore", "iptables"),
    ("iptables-save", "iptables"),
    ("nft", "nftables"),
    ("ss", "iproute2"),
    ("tcpdump", "tcpdump"),
];

/// What a step lacks: a program, and the package that has it.
pub(super) fn missing(
    step: &Step,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Option<(&'static str, &'static str)> {
    let words = || step.line.split(|letter: char| !(letter.is_alphanumeric() || "-./".contains(letter)));
    let is_run = |program: &str| {
        let named = |word: &str| Path::new(word).file_name().is_some_and(|name| name == program);
        words().any(named) || step.needs.contains(&program)
    };
    PACKAGES.into_iter().find(|(program, _)| is_run(program) && find(program).is_none())
}

#[cfg(test)]
mod tests {
    use super::super::story::{here, node};
    use super::*;

    #[test]
    fn a_step_lacks_what_its_line_runs() {
        for (step, lacking, missed) in [
            (node("a", "iptables -t nat -L -n"), "iptables", Some("iptables")),
            (node("a", "iptables-save | grep X"), "iptables", None),
            (here("kubectl exec net-test -- curl -s http://web"), "curl", Some("curl")),
            (here("kubectl get pods"), "kubectl", None),
            (node("a", "x=$(curl -s http://web); echo"), "curl", Some("curl")),
            (node("a", "cat a.yaml"), "curl", None),
            (node("a", "ss -tln").needs(&["curl"]), "curl", Some("curl")),
        ] {
            let find = |program: &str| (program != lacking).then(PathBuf::new);
            assert_eq!(missing(&step, find).map(|(program, _)| program), missed, "{}", step.line);
        }
    }
}
