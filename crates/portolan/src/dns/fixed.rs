//! Questions that are answered before anything is looked up: with a response code that the Corefile
//! gives, or from static names.

use portolan_dns::Known;
use portolan_names::Transport;
use portolan_names::wire::{Header, Name, Query, Writer, class};
use portolan_upstream::Forwarder;

/// The templates of a server block, each a domain, a type (`None`: any) and a response code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Codes(Vec<(Name, Option<u16>, u16)>);

impl Codes {
    /// Of the templates of a Corefile, in order.
    pub(super) fn new(templates: &[portolan_corefile::Template]) -> Codes {
        let each = templates.iter().flat_map(|template| {
            let domains = template.domains.iter().filter_map(|domain| domain_name(domain));
            domains.map(|domain| (domain, template.kind, template.rcode))
        });
        Codes(each.collect())
    }

    /// The code for questions for `name`, in lower case, and type `kind`.
    fn of(&self, name: &Name, kind: u16) -> Option<u16> {
        let fits = |(domain, of, _): &&(Name, Option<u16>, u16)| {
            name.is_within(domain) && of.is_none_or(|of| of == kind)
        };
        self.0.iter().find(fits).map(|(_, _, code)| *code)
    }

    /// The whole answer to a question for `name` and type `kind`, as another server would give it.
    pub(super) fn answer(&self, name: &Name, kind: u16) -> Option<Vec<u8>> {
        let mut question = vec![0; 12];
        question[5] = 1;
        question.extend_from_slice(name.as_wire());
        question.extend_from_slice(&kind.to_be_bytes());
        question.extend_from_slice(&class::IN.to_be_bytes());
        let query = Query::parse(&question).ok()?;
        let code = self.of(&query.name, kind)?;
        Some(written(&query, Transport::Tcp, code))
    }
}

/// `domain` in lower case.
pub(super) fn domain_name(domain: &str) -> Option<Name> {
    let mut name = if domain == "." { Name::root() } else { Name::parse(domain)? };
    name.make_lowercase();
    Some(name)
}

fn written(query: &Query<'_>, transport: Transport, rcode: u16) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.begin(query, query.limit(transport));
    writer.finish(query, Header { rcode, authoritative: true, ..Header::default() });
    writer.message().to_vec()
}

/// What a server block says at once.
pub(super) struct Fixed {
    pub(super) codes: Codes,
    /// Where its static names are, if it has some.
    pub(super) hosts: Option<Forwarder>,
}

impl Fixed {
    /// It says nothing about any question.
    pub(super) fn is_empty(&self) -> bool {
        self.codes.0.is_empty() && self.hosts.is_none()
    }
}

impl Known for Fixed {
    fn answer(&self, query: &Query<'_>, transport: Transport, reply: &mut Vec<u8>) -> bool {
        if let Some(code) = self.codes.of(&query.name, query.kind) {
            reply.extend(written(query, transport, code));
            return true;
        }
        self.hosts.as_ref().is_some_and(|hosts| hosts.fixed(query, transport, reply))
    }
}

#[cfg(test)]
mod tests {
    use portolan_corefile::Template;
    use portolan_names::wire::{kind, rcode};

    use super::*;

    #[test]
    fn the_first_that_fits_decides() {
        let template = |domain: &str, kind, rcode| Template { domains: vec![domain.to_owned()], kind, rcode };
        let codes = Codes::new(&[
            template("Corp.example", Some(kind::AAAA), rcode::NOERROR),
            template("corp.example", None, rcode::NXDOMAIN),
            template("refused.example", None, rcode::REFUSED),
        ]);
        for (name, kind, expected) in [
            ("a.corp.example", kind::AAAA, Some(rcode::NOERROR)),
            ("a.corp.example", kind::A, Some(rcode::NXDOMAIN)),
            ("CORP.example", kind::A, Some(rcode::NXDOMAIN)),
            ("refused.example", kind::AAAA, Some(rcode::REFUSED)),
            ("xcorp.example", kind::A, None),
        ] {
            let name = Name::parse(name).unwrap();
            let answer = codes.answer(&name, kind);
            let code = answer.as_ref().map(|message| u16::from(message[3] & 0xf));
            assert_eq!(code, expected, "{name} {kind}");
            assert!(answer.is_none_or(|message| message[2] & 0x84 == 0x84), "{name}: AA");
        }
        assert!(Codes::new(&[template(".", None, rcode::NXDOMAIN)]).answer(&Name::root(), kind::A).is_some());
    }
}
