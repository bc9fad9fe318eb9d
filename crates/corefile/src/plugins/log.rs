//! `log`: questions and their answers are logged.

use crate::directive::Directive;
use crate::domain::domain;
use crate::problem::Complaints;

/// Which questions are logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Names in these domains.
    pub domains: Vec<String>,
    /// A line, with placeholders such as `{name}`. `{common}` and `{combined}` are replaced
    /// already.
    pub format: String,
    /// The answers that are logged; empty: all.
    pub classes: Vec<Class>,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `success`
    Success,
    /// `denial`: NXDOMAIN or NODATA.
    Denial,
    /// `error`: any other code.
    Error,
}

/// The common log format.
const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} {>bufsize}\" \
                      {rcode} {>rflags} {rsize} {duration}";
/// The same with the opcode.
const COMBINED: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} {>bufsize} \
                        {>opcode}\" {rcode} {>rflags} {rsize} {duration}";

pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> Log {
    let mut args = &directive.args[..];
    let mut format = COMMON.to_owned();
    if let [domains @ .., last] = args
        && !domains.is_empty()
        && last.text.contains('{')
    {
        format = last.text.replace("{common}", COMMON).replace("{combined}", COMBINED);
        args = domains;
    }
    let mut found = Log { domains: Vec::new(), format, classes: Vec::new() };
    for arg in args {
        match domain(&arg.text) {
            Ok(domain) => found.domains.push(domain),
            Err(message) => complaints.error(&arg.place, message),
        }
    }
    if args.is_empty() {
        found.domains.push(".".to_owned());
    }
    let mut all = false;
    for line in &directive.lines {
        match line.option() {
            "class" => {
                line.some("success, denial, error or all", complaints);
                for text in line.texts() {
                    match text {
                        "success" => found.classes.push(Class::Success),
                        "denial" => found.classes.push(Class::Denial),
                        "error" => found.classes.push(Class::Error),
                        "all" => all = true,
                        other => {
                            line.error(complaints, format!("{other:?}: write success, denial, error or all"));
                        }
                    }
                }
            }
            _ => line.unknown(&["class"], complaints),
        }
    }
    if all {
        found.classes.clear();
    }
    found
}
