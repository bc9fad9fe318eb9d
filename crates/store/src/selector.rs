//! Label and field selectors.

use crate::definition::Definition;
use crate::failure::Failure;
use crate::object::Object;

/// What a list or watch selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    Is(String),
    /// Also true of what lacks the key.
    IsNot(String),
    In(Vec<String>),
    /// Also true of what lacks the key.
    NotIn(Vec<String>),
}

impl Requirement {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (key, test) = if let Some(set) = text.strip_suffix(')') {
            let refused = || format!("unable to parse requirement: {text:?}");
            let (head, values) = set.split_once('(').ok_or_else(refused)?;
            let values = values.split(',').map(|value| value.trim().to_owned()).collect();
            let (key, operator) = head.trim().split_once(char::is_whitespace).ok_or_else(refused)?;
            match operator.trim() {
                "in" => (key, Test::In(values)),
                "notin" => (key, Test::NotIn(values)),
                _ => return Err(refused()),
            }
        } else if let Some((key, value)) = text.split_once("!=") {
            (key, Test::IsNot(value.trim().to_owned()))
        } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (key, Test::Is(value.trim().to_owned()))
        } else if let Some(key) = text.strip_prefix('!') {
            (key, Test::Absent)
        } else {
            (text, Test::Exists)
        };
        let key = key.trim();
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || "()!=".contains(c)) {
            return Err(format!("unable to parse requirement: {text:?}"));
        }
        Ok(Self { key: key.to_owned(), test })
    }

    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut depth = 0_usize;
        let parts = text.split(|c: char| {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        });
        parts.filter(|part| !part.trim().is_empty()).map(Self::parse).collect()
    }

    fn holds(&self, value: Option<&str>) -> bool {
        match (&self.test, value) {
            (Test::Exists, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
            (Test::Is(wanted), value) => value == Some(wanted),
            (Test::IsNot(unwanted), value) => value != Some(unwanted),
            (Test::In(wanted), value) => value.is_some_and(|value| wanted.iter().any(|one| one == value)),
            (Test::NotIn(unwanted), value) => {
                value.is_none_or(|value| unwanted.iter().all(|one| one != value))
            }
        }
    }
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`; `namespace` restricts to one namespace. The error
    /// (400) has the message of a real server.
    pub fn parse(
        definition: &Definition,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Failure> {
        let refused = |message| Failure::new(400, message);
        let fields = Requirement::parse_all(fields).map_err(refused)?;
        for Requirement { key, test } in &fields {
            let known = matches!(key.as_str(), "metadata.name" | "metadata.namespace")
                || definition.selectable.contains(&key.as_str());
            if !known || !matches!(test, Test::Is(_) | Test::IsNot(_)) {
                return Err(refused(format!("field label not supported: {key}")));
            }
        }
        let labels = Requirement::parse_all(labels).map_err(refused)?;
        Ok(Self { namespace: namespace.map(str::to_owned), labels, fields })
    }

    /// Whether nothing is left out.
    pub fn selects_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == *object.key().0)
            && self.labels.iter().all(|wanted| wanted.holds(object.label(&wanted.key)))
            && self.fields.iter().all(|wanted| wanted.holds(Some(object.field(&wanted.key))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::tests::SERVICES;

    #[test]
    fn selects() {
        let service = Object::new(
            &SERVICES,
            json!({ "apiVersion": "v1", "kind": "Service",
                "metadata": { "namespace": "shop", "name": "web", "labels": { "app": "web", "empty": "" } },
                "spec": { "clusterIP": "10.96.0.1", "type": "ClusterIP" } }),
            1,
        )
        .expect("valid");
        // labels, fields, namespace, selected
        let table = [
            ("", "", None, true),
            ("app", "", None, true),
            ("!app", "", None, false),
            ("!service.kubernetes.io/service-proxy-name", "", None, true),
            ("app=web", "", None, true),
            ("app==web", "", None, true),
            ("app=db", "", None, false),
            ("app!=db", "", None, true),
            ("app!=web", "", None, false),
            ("none!=web", "", None, true),
            ("empty", "", None, true),
            ("empty=", "", None, true),
            ("app=web,!none", "", None, true),
            ("app=web,none", "", None, false),
            ("app in (db, web),!none", "", None, true),
            ("app in (db)", "", None, false),
            ("none in (db)", "", None, false),
            ("app notin (db),app", "", None, true),
            ("app notin (web,db)", "", None, false),
            ("none notin (db)", "", None, true),
            ("", "spec.clusterIP!=None", None, true),
            ("", "spec.clusterIP=None", None, false),
            ("", "metadata.name=web", None, true),
            ("", "metadata.name=web,metadata.namespace=shop", None, true),
            ("", "metadata.namespace=other", None, false),
            ("", "", Some("shop"), true),
            ("", "", Some("other"), false),
        ];
        for (labels, fields, namespace, selected) in table {
            let selector = Selector::parse(&SERVICES, namespace, labels, fields).expect(labels);
            assert_eq!(selector.matches(&service), selected, "{labels:?} {fields:?} {namespace:?}");
        }
    }

    #[test]
    fn refuses() {
        for (labels, fields, message) in [
            ("a of (b)", "", "unable to parse requirement: \"a of (b)\""),
            ("(b)", "", "unable to parse requirement: \"(b)\""),
            ("a in b)", "", "unable to parse requirement: \"a in b)\""),
            ("", "metadata.name in (b)", "field label not supported: metadata.name"),
            ("=b", "", "unable to parse requirement: \"=b\""),
            ("", "spec.nodeName=n", "field label not supported: spec.nodeName"),
            ("", "metadata.name", "field label not supported: metadata.name"),
        ] {
            assert_eq!(
                Selector::parse(&SERVICES, None, labels, fields),
                Err(Failure::new(400, message)),
                "{labels} {fields}"
            );
        }
    }
}
