//! Flags that kube-proxy had once and has no more (spec §10.11). Static pods of old clusters carry
//! them still: each is understood, so that all of them are named at once, with the reason and what
//! to do.

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use crate::problem::{ConfigError, Place};

/// How a flag took its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `--flag` or `--flag=false`
    Switch,
    /// `--flag=value` or `--flag value`
    Value,
}

/// A flag that is gone.
struct Flag {
    /// Without dashes.
    name: &'static str,
    form: Form,
    /// Why it is gone, and what to use instead, if anything.
    why: &'static str,
}

const STDERR: &str = "log lines go to standard error, which the container runtime or systemd keeps";
const HEADERS: &str = "log lines have one form; --logging-format=json is for programs";

const FLAGS: [Flag; 17] = [
    flag("cleanup-ipvs", Form::Switch, "--cleanup removes the rules of all modes"),
    flag("cleanup-iptables", Form::Switch, "--cleanup removes the rules of all modes"),
    flag(
        "resource-container",
        Form::Value,
        "the container runtime or systemd puts processes into control groups",
    ),
    flag(
        "conntrack-max",
        Form::Value,
        "--conntrack-max-per-core and --conntrack-min set the limit of connections",
    ),
    flag("google-json-key", Form::Value, "it was for cloud providers, which no proxy talks to"),
    flag(
        "azure-container-registry-config",
        Form::Value,
        "it was for cloud providers, which no proxy talks to",
    ),
    flag("logtostderr", Form::Switch, STDERR),
    flag("alsologtostderr", Form::Switch, STDERR),
    flag("stderrthreshold", Form::Value, "all log lines go to standard error; -v sets how many there are"),
    flag("log-dir", Form::Value, STDERR),
    flag("log-file", Form::Value, STDERR),
    flag("log-file-max-size", Form::Value, STDERR),
    flag("skip-headers", Form::Switch, HEADERS),
    flag("skip-log-headers", Form::Switch, HEADERS),
    flag("add-dir-header", Form::Switch, HEADERS),
    flag("one-output", Form::Switch, STDERR),
    flag("log-backtrace-at", Form::Value, "there are no Go files here to stop at"),
];

const fn flag(name: &'static str, form: Form, why: &'static str) -> Flag {
    Flag { name, form, why }
}

/// Those that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed(Vec<&'static str>);

impl Removed {
    /// An error for each.
    pub(crate) fn errors(&self) -> Vec<ConfigError> {
        let given = FLAGS.iter().filter(|flag| self.0.contains(&flag.name));
        given
            .map(|flag| ConfigError {
                place: Place::Flag(flag.name),
                message: format!("was removed from kube-proxy: {}; take it out", flag.why),
            })
            .collect()
    }
}

impl clap::Args for Removed {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| {
            let arg = Arg::new(flag.name).long(flag.name).hide(true).action(ArgAction::Append);
            let arg = arg.num_args(0..=1).default_missing_value("").allow_hyphen_values(true);
            command.arg(arg.require_equals(flag.form == Form::Switch))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Removed::augment_args(command)
    }
}

impl FromArgMatches for Removed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Removed, clap::Error> {
        let mut removed = Removed::default();
        removed.update_from_arg_matches(matches)?;
        Ok(removed)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = FLAGS.iter().map(|flag| flag.name).filter(|name| matches.contains_id(name)).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    #[test]
    fn each_is_understood_as_it_was_written_once() {
        let command = || Removed::augment_args(Command::new("kube-proxy")).arg(Arg::new("next").long("next"));
        for flag in &FLAGS {
            let mut lines = vec![vec![format!("--{}", flag.name)], vec![format!("--{}=", flag.name)]];
            lines.push(vec![format!("--{}=x", flag.name), format!("--{}=y", flag.name)]);
            if flag.form == Form::Value {
                lines.push(vec![format!("--{}", flag.name), "x".to_owned()]);
            }
            for mut line in lines {
                line.insert(0, "kube-proxy".to_owned());
                line.push("--next=1".to_owned());
                let matches = command().try_get_matches_from(&line).unwrap();
                assert_eq!(
                    Removed::from_arg_matches(&matches).unwrap(),
                    Removed(vec![flag.name]),
                    "{line:?}"
                );
            }
        }
    }
}
