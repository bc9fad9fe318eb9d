//! What a list asks for.

use crate::definition::Definition;
use crate::failure::Failure;
use crate::selector::Selector;
use crate::store::{Expired, Page, Store};

/// The options of a list that concern versions and pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// At most so many objects; 0 for all.
    pub limit: usize,
    /// What the page before gave, to go on from there.
    pub token: Option<String>,
    /// At least this version; 0 for any.
    pub version: u64,
    /// Any version will do: such a list comes out of the watch cache, which does not page.
    pub any_version: bool,
    /// Exactly that version.
    pub exact: bool,
}

impl ListOptions {
    /// Reads them from the parameters of a query, which `parameter` looks up.
    pub fn read<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Failure> {
        let number = |name: &str| match parameter(name) {
            None | Some("") => Ok(0_u64),
            Some(text) => {
                text.parse().map_err(|_| Failure::new(400, format!("{name}: invalid value: {text:?}")))
            }
        };
        Ok(Self {
            limit: usize::try_from(number("limit")?).unwrap_or(usize::MAX),
            token: parameter("continue").filter(|token| !token.is_empty()).map(str::to_owned),
            version: number("resourceVersion")?,
            any_version: parameter("resourceVersion") == Some("0"),
            exact: parameter("resourceVersionMatch") == Some("Exact"),
        })
    }
}

impl Store {
    /// Answers a list, or a page of one.
    ///
    /// Fails with 410 if the token or the version is too old, with 504 if the version is yet to
    /// come.
    pub fn list(
        &mut self,
        definition: &Definition,
        selector: &Selector,
        options: &ListOptions,
    ) -> Result<Page, Failure> {
        if let Some(token) = &options.token {
            return self.next_page(definition, token, options.limit).map_err(|Expired| {
                Failure::new(
                    410,
                    "The provided continue parameter is too old to display a consistent list result. \
                     Start a new list without the continue parameter.",
                )
            });
        }
        let current = self.version();
        if options.version > current {
            return Err(Failure::too_new(options.version, current));
        }
        if options.exact && options.version != current {
            return Err(Failure::too_old(options.version, current));
        }
        Ok(self.first_page(definition, selector, if options.any_version { 0 } else { options.limit }))
    }
}
