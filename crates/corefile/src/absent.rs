//! CoreDNS's plugins that are not had: what each does, and what to do without it.

use crate::directive::Directive;
use crate::problem::Complaints;

/// What becomes of a plugin that is not had.
enum Fate {
    /// It changes neither answers nor who gets them: it is accepted, without effect.
    NoEffect(&'static str),
    /// It would change answers: the Corefile is refused.
    Refused(&'static str, &'static str),
}

use Fate::{NoEffect, Refused};

/// The largest answer by UDP, octets.
const UDP_MAX: u32 = 1232;
const ELSEWHERE: &str = "forward its domain to a server that has it";

const PLUGINS: &[(&str, Fate)] = &[
    (
        "any",
        Refused(
            "answers questions of type ANY briefly",
            "delete the line: names of the cluster have no answer to ANY",
        ),
    ),
    ("auto", Refused("serves zone files of a folder", ELSEWHERE)),
    ("azure", Refused("serves zones of Azure DNS", ELSEWHERE)),
    ("cancel", NoEffect("questions to other servers end by themselves")),
    ("chaos", Refused("answers questions of class CH", "delete the line")),
    ("clouddns", Refused("serves zones of Google Cloud DNS", ELSEWHERE)),
    ("debug", NoEffect("for more in the log give -v=4")),
    ("deprecated", NoEffect("it does nothing")),
    ("dns64", Refused("makes AAAA records of A records", ELSEWHERE)),
    ("dnssec", Refused("signs answers", ELSEWHERE)),
    (
        "dnstap",
        Refused("sends questions and answers to a program", "delete the line, and log questions with log"),
    ),
    ("erratic", Refused("fails on purpose", "delete the line")),
    ("etcd", Refused("serves names from etcd", ELSEWHERE)),
    ("federation", Refused("was removed from CoreDNS 1.7", "delete the line")),
    ("file", Refused("serves a zone file", ELSEWHERE)),
    ("geoip", Refused("finds where clients are", "delete the line")),
    ("grpc", Refused("forwards by gRPC", "use forward")),
    ("grpc_server", Refused("sets up DNS over gRPC for clients", "delete the line")),
    ("header", Refused("changes flags of messages", "delete the line")),
    ("https", Refused("sets up DNS over HTTPS for clients", "delete the line")),
    ("https3", Refused("sets up DNS over HTTP/3 for clients", "delete the line")),
    ("k8s_external", Refused("serves external addresses of Services", ELSEWHERE)),
    ("local", Refused("answers for localhost and for 127.0.0.0/8", "write the names as lines of hosts")),
    ("metadata", NoEffect("nothing here uses metadata")),
    ("minimal", NoEffect("authority and additional sections have no more than they must")),
    ("multisocket", NoEffect("there is a socket for each processor core")),
    ("nomad", Refused("serves names of a Nomad cluster", ELSEWHERE)),
    ("nsid", Refused("adds the server's name to answers", "delete the line")),
    ("on", Refused("runs a program at start or end", "delete the line, and run it in the pod")),
    ("pprof", NoEffect("there is no Go runtime to profile: use perf(1)")),
    ("proxy", Refused("was removed from CoreDNS 1.5", "write forward in its place")),
    ("proxyproto", Refused("takes clients' addresses from the PROXY protocol", "delete the line")),
    ("quic", Refused("sets up DNS over QUIC for clients", "delete the line")),
    (
        "rewrite",
        Refused(
            "changes questions and answers",
            "forward the domain to a server that has it, or write names as lines of hosts",
        ),
    ),
    ("root", Refused("names the folder of files", "delete the line, and write whole paths")),
    ("route53", Refused("serves zones of AWS Route 53", ELSEWHERE)),
    ("secondary", Refused("serves a zone of a primary server", ELSEWHERE)),
    ("shed", NoEffect("load is shed by the size of socket buffers")),
    ("sign", Refused("signs zone files", ELSEWHERE)),
    ("timeouts", Refused("sets how long connections may be idle", "delete the line: it is 10 s")),
    ("tls", Refused("sets up DNS over TLS for clients", "delete the line")),
    ("trace", NoEffect("traces of single questions are not had")),
    ("transfer", Refused("lets zones be transferred", "delete the line")),
    ("tsig", Refused("checks signatures of questions", "delete the line")),
    ("view", Refused("chooses server blocks by an expression", "use acl, or other ports")),
    ("whoami", Refused("answers with the client's address", "delete the line")),
];

/// Complains of a directive that is none of ours. `known` are the names of those.
pub(crate) fn complain(directive: &Directive, known: &[&str], complaints: &mut Complaints<'_>) {
    let name = &*directive.name.text;
    if name == "bufsize" {
        return bufsize(directive, complaints);
    }
    match PLUGINS.iter().find(|(plugin, _)| *plugin == name) {
        Some((_, Fate::NoEffect(why))) => {
            complaints.notice(directive.place(), format!("has no effect: {why}"));
        }
        Some((_, Fate::Refused(what, remedy))) => {
            complaints.error(directive.place(), format!("this plugin, which {what}, is not had: {remedy}"));
        }
        None => {
            let all = known.iter().copied().chain(PLUGINS.iter().map(|(plugin, _)| *plugin));
            let message = match portolan_yaml::nearest(name, all) {
                Some(meant) => format!("no such plugin: did you mean {meant}?"),
                None => "CoreDNS has no such plugin: delete the line, or forward its domain to a server that has it".to_owned(),
            };
            complaints.error(directive.place(), message);
        }
    }
}

/// `bufsize SIZE`: how large answers by UDP may be, whatever clients accept.
fn bufsize(directive: &Directive, complaints: &mut Complaints<'_>) {
    let size = directive.args.first().map_or(Ok(UDP_MAX), |size| size.text.parse());
    match size {
        Ok(size) if size >= UDP_MAX => {
            complaints.notice(
                directive.place(),
                format!("has no effect: answers by UDP have at most {UDP_MAX} octets"),
            );
        }
        _ => complaints.error(
            directive.place(),
            format!("smaller answers by UDP than {UDP_MAX} octets are not had: delete the line"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(PLUGINS.is_sorted_by_key(|(name, _)| *name));
    }
}
