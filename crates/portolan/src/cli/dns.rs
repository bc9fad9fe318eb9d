//! The command line of `portolan dns`, with the flags that CoreDNS has.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use ipnet::IpNet;
use portolan_config::config::LogFormat;
use portolan_observe::control::DNS_SOCKET;

/// The folder for what is remembered, if no flag says otherwise.
pub(crate) const STATE_DIR: &str = "/var/lib/portolan";

/// Where its Corefile is, where the objects come from, who may ask.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("source").args(["kubeconfig", "manifests"])))]
pub(crate) struct DnsArgs {
    /// The Corefile; without it, the one that kubeadm installs
    #[arg(long, value_name = "FILE")]
    pub(crate) conf: Option<PathBuf>,

    /// The port of server blocks without one
    #[arg(long = "dns.port", short = 'p', value_name = "PORT", default_value_t = 53)]
    pub(crate) port: u16,

    /// The cluster's domain, where no Corefile says it
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,

    /// The kubeconfig of the cluster that is followed; without it and without a folder, the cluster
    /// that this runs in
    #[arg(long, value_name = "FILE", value_parser = portolan_config::path())]
    kubeconfig: Option<PathBuf>,

    /// The URL of the API server, in place of the kubeconfig's
    #[arg(long, value_name = "URL", conflicts_with = "manifests")]
    pub(crate) master: Option<String>,

    /// Names of a folder of YAML and JSON manifests instead of a cluster
    #[arg(long, value_name = "DIR", value_parser = portolan_config::path())]
    manifests: Option<PathBuf>,

    /// Networks that ClusterIPs of manifests are allocated from: names of addresses in them are
    /// nobody else's
    #[arg(
        long,
        value_name = "CIDR,...",
        value_delimiter = ',',
        default_value = "10.96.0.0/16,fd00:10:96::/112"
    )]
    pub(crate) service_cluster_ip_range: Vec<IpNet>,

    /// Folder for what is remembered over restarts: the last state of the cluster; an empty name to
    /// remember nothing
    #[arg(long, value_name = "DIR", default_value = STATE_DIR, value_parser = portolan_config::path())]
    state_dir: PathBuf,

    /// Socket on which `portolan get names` asks; without this flag /run/portolan/dns.sock, or
    /// dns.sock in the folder of --state-dir where that cannot be written; an empty name for none
    #[arg(long, value_name = "PATH", value_parser = portolan_config::path())]
    socket: Option<PathBuf>,

    /// Networks whose questions are answered, unless the Corefile has acl; without this flag those
    /// that are not routed on the Internet
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub(crate) allow_from: Vec<IpNet>,

    /// Log one of so many questions, where the Corefile has log
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) log_one_of: u32,

    /// Threads that answer; without it, one for each processor core
    #[arg(long, value_name = "NUMBER")]
    pub(crate) threads: Option<usize>,

    /// How much is logged: 2 shows details, 4 everything
    #[arg(short, long, value_name = "LEVEL", default_value_t = 0)]
    pub(crate) verbosity: u32,

    /// How it is logged: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = log_format)]
    pub(crate) logging_format: LogFormat,

    /// Log nothing at the start that is not a warning
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl DnsArgs {
    /// The kubeconfig, if one is named: an empty path names none.
    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        named(self.kubeconfig.as_ref())
    }

    /// The folder of manifests, if one is named.
    pub(crate) fn manifests(&self) -> Option<&Path> {
        named(self.manifests.as_ref())
    }

    /// Where the socket may be, in the order in which it is tried.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        if self.socket.is_some() {
            return named(self.socket.as_ref()).map(Path::to_owned).into_iter().collect();
        }
        let beside = self.state_dir().map(|folder| folder.join("dns.sock"));
        [Some(DNS_SOCKET.into()), beside].into_iter().flatten().collect()
    }

    /// The folder for what is remembered, if anything is.
    pub(crate) fn state_dir(&self) -> Option<&Path> {
        named(Some(&self.state_dir))
    }
}

fn named(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("give text or json".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: DnsArgs,
    }

    #[test]
    fn where_the_socket_may_be() {
        for (given, expected) in [
            (&[][..], &["/run/portolan/dns.sock", "/var/lib/portolan/dns.sock"][..]),
            (&["--state-dir="], &["/run/portolan/dns.sock"]),
            (&["--state-dir=/s"], &["/run/portolan/dns.sock", "/s/dns.sock"]),
            (&["--socket=/a"], &["/a"]),
            (&["--socket="], &[]),
        ] {
            let args = Program::parse_from([&["portolan"], given].concat()).args;
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(args.sockets(), expected, "{given:?}");
        }
    }
}
