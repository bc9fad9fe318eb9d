//! Text as a [`Corefile`].

use crate::absent;
use crate::blocks::{self, Block};
use crate::corefile::{Corefile, ServerBlock};
use crate::directive::Directive;
use crate::key::{self, Zone};
use crate::overlap::overlaps;
use crate::plugins::{acl, autopath, bind, cache, errors, forward, health, hosts, kubernetes, loadbalance};
use crate::plugins::{log, loop_detection, prometheus, ready, reload, template};
use crate::problem::{Errors, Place, Problems};
use crate::surroundings::Surroundings;

/// The plugins that are had.
const PLUGINS: [&str; 17] = [
    "acl",
    "autopath",
    "bind",
    "cache",
    "errors",
    "forward",
    "health",
    "hosts",
    "import",
    "kubernetes",
    "loadbalance",
    "log",
    "loop",
    "prometheus",
    "ready",
    "reload",
    "template",
];

/// Those that may be in a server block several times.
const REPEATED: [&str; 5] = ["acl", "bind", "forward", "log", "template"];

/// Reads `text`, the content of `file`. Server blocks without a port have `default_port`. The error
/// has all that is wrong.
pub fn parse(
    file: &str,
    text: &str,
    default_port: u16,
    surroundings: &dyn Surroundings,
) -> Result<Corefile, Errors> {
    let mut problems = Problems::default();
    let written = match blocks::read(file, text, surroundings, &mut problems) {
        Ok(written) => written,
        Err(problem) => return Err(Errors(vec![problem])),
    };
    let blocks: Vec<ServerBlock> =
        written.iter().filter_map(|block| server_block(block, default_port, &mut problems)).collect();
    problems.errors.extend(overlaps(&blocks));
    if written.is_empty() {
        let place = Place { file: file.into(), line: 1 };
        problems.of("").error(&place, "there is no server block: write .:53 { ... }");
    }
    if problems.errors.is_empty() {
        Ok(Corefile { blocks, notices: problems.notices })
    } else {
        Err(Errors(problems.errors))
    }
}

/// `None` if it has no zone that can be used, which has been complained of.
fn server_block(block: &Block, default_port: u16, problems: &mut Problems) -> Option<ServerBlock> {
    let zones: Vec<Zone> =
        block.keys.iter().flat_map(|key| key::zones(key, default_port, &mut problems.of(""))).collect();
    let place = block.keys.first()?.place.clone();
    let mut found = ServerBlock {
        place,
        zones,
        acl: Vec::new(),
        autopath: None,
        bind: Vec::new(),
        cache: None,
        errors: false,
        forward: Vec::new(),
        health: None,
        hosts: None,
        kubernetes: None,
        log: Vec::new(),
        loop_detection: false,
        prometheus: None,
        ready: None,
        reload: None,
        template: Vec::new(),
    };
    for (number, directive) in block.directives.iter().enumerate() {
        let name = &*directive.name.text;
        let before = block.directives[..number].iter().find(|other| other.name.text == name);
        if let Some(before) = before.filter(|_| !REPEATED.contains(&name)) {
            let message =
                format!("is in this server block already, in {}: put both together", before.place());
            problems.of(name).error(directive.place(), message);
            continue;
        }
        plugin(&mut found, directive, problems);
    }
    let searched = block.directives.iter().find(|directive| directive.name.text == "autopath");
    if let Some(searched) = searched {
        autopath::needs(searched, found.kubernetes.as_ref(), &mut problems.of("autopath"));
    }
    (!found.zones.is_empty()).then_some(found)
}

fn plugin(block: &mut ServerBlock, directive: &Directive, problems: &mut Problems) {
    let name = &*directive.name.text;
    let mut complaints = problems.of(name);
    for line in directive.lines.iter().filter(|line| line.has_block && PLUGINS.contains(&name)) {
        line.error(&mut complaints, "no option has a block of its own: delete the inner braces");
    }
    let complaints = &mut complaints;
    let domains: Vec<String> = block.zones.iter().map(|zone| zone.domain.clone()).collect();
    match name {
        "acl" => block.acl.push(acl::read(directive, &domains, complaints)),
        "autopath" => block.autopath = Some(autopath::read(directive, &domains, complaints)),
        "bind" => block.bind.push(bind::read(directive, complaints)),
        "cache" => block.cache = Some(cache::read(directive, &domains, complaints)),
        "errors" => block.errors = errors::read(directive, complaints),
        "forward" => block.forward.extend(forward::read(directive, complaints)),
        "health" => block.health = Some(health::read(directive, complaints)),
        "hosts" => block.hosts = Some(hosts::read(directive, &domains, complaints)),
        "kubernetes" => block.kubernetes = Some(kubernetes::read(directive, &domains, complaints)),
        "loadbalance" => loadbalance::read(directive, complaints),
        "log" => block.log.push(log::read(directive, complaints)),
        "loop" => block.loop_detection = loop_detection::read(directive, complaints),
        "prometheus" => block.prometheus = Some(prometheus::read(directive, complaints)),
        "ready" => block.ready = Some(ready::read(directive, complaints)),
        "reload" => block.reload = Some(reload::read(directive, complaints)),
        "template" => block.template.extend(template::read(directive, &domains, complaints)),
        _ => absent::complain(directive, &PLUGINS, complaints),
    }
}
