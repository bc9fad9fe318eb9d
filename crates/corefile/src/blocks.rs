//! Tokens as server blocks: keys and plugins, with imports, snippets and environment variables put
//! in.

use std::collections::HashMap;
use std::sync::Arc;

use crate::directive::{Directive, Line};
use crate::problem::{Place, Problem, Problems};
use crate::surroundings::Surroundings;
use crate::token::{Token, tokens};

/// At most this many imports are followed, also within what was imported (as CoreDNS).
const IMPORTS_MAX: usize = 10_000;
/// At most this many tokens come from imports: snippets that import each other would grow without
/// end.
const IMPORTED_TOKENS_MAX: usize = 100_000;

/// A server block as it is written.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) keys: Vec<Token>,
    pub(crate) directives: Vec<Directive>,
}

/// The server blocks of `text`. The error is the first thing that cannot be read: what follows it
/// has no meaning.
pub(crate) fn read(
    file: &str,
    text: &str,
    surroundings: &dyn Surroundings,
    problems: &mut Problems,
) -> Result<Vec<Block>, Problem> {
    let mut rest = tokens(&Arc::from(file), text)?;
    rest.reverse();
    let last = rest.first().map_or_else(|| Place { file: file.into(), line: 1 }, |token| token.place.clone());
    let mut reader =
        Reader { rest, last, snippets: HashMap::new(), imports: 0, imported: 0, surroundings, problems };
    let mut blocks = Vec::new();
    while let Some(block) = reader.block()? {
        blocks.push(block);
    }
    Ok(blocks)
}

struct Reader<'a> {
    /// What is still to be read, the next token last.
    rest: Vec<Token>,
    /// Where the file ends.
    last: Place,
    snippets: HashMap<String, Vec<Token>>,
    imports: usize,
    imported: usize,
    surroundings: &'a dyn Surroundings,
    problems: &'a mut Problems,
}

fn wrong(place: &Place, message: impl Into<String>) -> Problem {
    Problem { place: place.clone(), subject: String::new(), message: message.into() }
}

impl Reader<'_> {
    /// The next token, with imports that stand before it put in their places.
    fn next(&mut self) -> Result<Option<Token>, Problem> {
        while let Some(token) = self.rest.pop() {
            if !token.imports() {
                return Ok(Some(token));
            }
            self.import(&token)?;
        }
        Ok(None)
    }

    /// The next token, unless it begins a line.
    fn next_of_line(&mut self) -> Option<Token> {
        self.rest.pop_if(|token| !token.starts_line)
    }

    fn must(&mut self, what: &str, opened: &Place) -> Result<Token, Problem> {
        let last = self.last.clone();
        self.next()?.ok_or_else(|| {
            wrong(
                &last,
                format!("the file ends where {what} is expected, for the {{ in line {}", opened.line),
            )
        })
    }

    /// The next server block, after the snippets that stand before it.
    fn block(&mut self) -> Result<Option<Block>, Problem> {
        loop {
            let Some(first) = self.next()? else { return Ok(None) };
            let keys = self.keys(first)?;
            let opening = self.rest.pop_if(|token| token.opens());
            if let Some(name) = snippet_name(&keys) {
                let place = &keys[0].place;
                let Some(opening) = opening else {
                    return Err(wrong(
                        place,
                        format!("snippet ({name}): {{ should follow it on the same line"),
                    ));
                };
                let body = self.snippet(&opening.place)?;
                if self.snippets.insert(name.clone(), body).is_some() {
                    return Err(wrong(place, format!("snippet ({name}) is there twice: rename one of them")));
                }
                continue;
            }
            let opened = opening.map(|token| token.place);
            let directives = self.directives(opened.as_ref())?;
            return Ok(Some(Block { keys, directives }));
        }
    }

    /// The keys of a server block: on one line, or on several with commas between them.
    fn keys(&mut self, first: Token) -> Result<Vec<Token>, Problem> {
        let mut keys = Vec::new();
        let mut next = Some(first);
        while let Some(mut token) = next {
            if token.opens() || token.closes() {
                let message = format!(
                    "{} stands where the zones of a server block are expected: write .:53 or others before it",
                    token.text
                );
                return Err(wrong(&token.place, message));
            }
            self.put_variables(&mut token);
            let more = token.text.ends_with(',');
            if more {
                token.text.pop();
            }
            let place = token.place.clone();
            if !token.text.is_empty() {
                keys.push(token);
            }
            next = if more {
                let token = self.next()?;
                if token.as_ref().is_none_or(Token::opens) {
                    return Err(wrong(&place, "another zone should follow the comma: delete the comma"));
                }
                token
            } else {
                self.rest.pop_if(|token| !token.starts_line && !token.opens())
            };
        }
        Ok(keys)
    }

    /// The plugins of a server block. Without braces, it goes to the end of the file.
    fn directives(&mut self, opened: Option<&Place>) -> Result<Vec<Directive>, Problem> {
        let mut directives = Vec::new();
        loop {
            let token = match opened {
                Some(opened) => self.must("}", opened)?,
                None => match self.next()? {
                    Some(token) => token,
                    None => return Ok(directives),
                },
            };
            if token.closes() && opened.is_some() {
                return Ok(directives);
            }
            if token.opens() || token.closes() {
                let message = format!("{} has no match: delete it, or write what it belongs to", token.text);
                return Err(wrong(&token.place, message));
            }
            directives.push(self.directive(token)?);
        }
    }

    fn directive(&mut self, mut name: Token) -> Result<Directive, Problem> {
        self.put_variables(&mut name);
        let args = self.arguments()?;
        // The brace may be on the next line.
        let Some(opening) = self.rest.pop_if(|token| token.opens()) else {
            return Ok(Directive { name, args, lines: Vec::new() });
        };
        let mut lines = Vec::new();
        loop {
            let mut token = self.must("}", &opening.place)?;
            if token.closes() {
                return Ok(Directive { name, args, lines });
            }
            if token.opens() {
                return Err(wrong(&token.place, "{ has no option before it: delete it"));
            }
            self.put_variables(&mut token);
            let args = self.arguments()?;
            let inner = self.rest.pop_if(|token| token.opens());
            if let Some(inner) = &inner {
                self.skip(&inner.place)?;
            }
            lines.push(Line { name: token, args, has_block: inner.is_some() });
        }
    }

    /// What follows on the line, up to an opening brace.
    fn arguments(&mut self) -> Result<Vec<Token>, Problem> {
        let mut args = Vec::new();
        while let Some(mut token) = self.rest.pop_if(|token| !token.starts_line && !token.opens()) {
            if token.closes() {
                return Err(wrong(
                    &token.place,
                    "} should be on a line of its own: begin a new line before it",
                ));
            }
            self.put_variables(&mut token);
            args.push(token);
        }
        Ok(args)
    }

    /// The tokens up to the brace that matches one at `opened`, which is taken too.
    fn snippet(&mut self, opened: &Place) -> Result<Vec<Token>, Problem> {
        let (mut body, mut depth) = (Vec::new(), 0_usize);
        loop {
            let Some(token) = self.rest.pop() else {
                let message =
                    format!("the file ends where }} is expected, for the {{ in line {}", opened.line);
                return Err(wrong(&self.last, message));
            };
            if token.opens() {
                depth += 1;
            } else if token.closes() {
                if depth == 0 {
                    return Ok(body);
                }
                depth -= 1;
            }
            body.push(token);
        }
    }

    /// Passes over a block.
    fn skip(&mut self, opened: &Place) -> Result<(), Problem> {
        self.snippet(opened).map(drop)
    }

    /// Puts what `import` stands for in its place.
    fn import(&mut self, import: &Token) -> Result<(), Problem> {
        let wrong =
            |message: String| Problem { place: import.place.clone(), subject: "import".to_owned(), message };
        let (Some(mut pattern), None) = (self.next_of_line(), self.next_of_line()) else {
            return Err(wrong("takes the name of one snippet or file".to_owned()));
        };
        self.put_variables(&mut pattern);
        let pattern = pattern.text;
        self.imports += 1;
        let mut body = if let Some(body) = self.snippets.get(&pattern) {
            body.clone()
        } else {
            let files = self.surroundings.import(&pattern, &import.place.file);
            let mut body = Vec::new();
            for file in files.map_err(|why| wrong(format!("{pattern}: {why}")))? {
                body.extend(tokens(&file.name.into(), &file.text)?);
            }
            body
        };
        self.imported += body.len();
        if self.imports > IMPORTS_MAX || self.imported > IMPORTED_TOKENS_MAX {
            let message =
                format!("{pattern}: what is imported has no end: find the import that imports itself");
            return Err(wrong(message));
        }
        if let Some(first) = body.first_mut() {
            first.starts_line = true;
        }
        self.rest.extend(body.into_iter().rev());
        Ok(())
    }

    /// Puts the values of environment variables in: `{$NAME}`, `{%NAME%}`.
    fn put_variables(&mut self, token: &mut Token) {
        for (begin, end) in [("{%", "%}"), ("{$", "}")] {
            let mut text = String::new();
            let mut rest = &*token.text;
            while let Some((before, after)) = rest.split_once(begin) {
                let Some((name, after)) = after.split_once(end).filter(|(name, _)| !name.is_empty()) else {
                    break;
                };
                text.push_str(before);
                match self.surroundings.variable(name) {
                    Some(value) => text.push_str(&value),
                    None => self.problems.notices.push(Problem {
                        place: token.place.clone(),
                        subject: String::new(),
                        message: format!(
                            "{begin}{name}{end}: no such environment variable: nothing stands in its place"
                        ),
                    }),
                }
                rest = after;
            }
            text.push_str(rest);
            token.text = text;
        }
    }
}

/// The name in `(name)`.
fn snippet_name(keys: &[Token]) -> Option<String> {
    let [key] = keys else { return None };
    Some(key.text.strip_prefix('(')?.strip_suffix(')')?.to_owned())
}
