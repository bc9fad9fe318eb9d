//! The URL of an API server.

use std::net::Ipv6Addr;

use http::Uri;

/// The longest URL, in bytes: paths and queries are added to it, and a URI as a whole has at most
/// 65,534.
const LENGTH: usize = 2048;

/// Reads `text`, a URL or, as client-go has it, a host and port that `scheme` is put in front of.
/// The error says what is wrong with it.
///
/// What this returns has a scheme of `http` or `https`, a host, and nothing but a path after it.
pub(super) fn url(text: &str, scheme: &str) -> Result<Uri, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > LENGTH {
        return Err(format!("it has {} bytes, and at most {LENGTH} can be used", text.len()));
    }
    if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
        return Err(format!("it contains {odd:?}"));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Err(format!("an IPv6 address stands in brackets: [{address}]"));
    }
    let whole = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    if let Some(odd) = whole.find(['?', '#']) {
        return Err(format!("{:?} cannot follow the path", &whole[odd..]));
    }
    if whole.split_once("://").is_none_or(|(_, rest)| rest.trim_matches('/').is_empty()) {
        return Err("it names no host".to_owned());
    }
    let uri: Uri =
        whole.trim_end_matches('/').parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(other) => return Err(format!("the scheme {other:?} is neither https nor http")),
        None => return Err("it has no scheme".to_owned()),
    }
    let authority = uri.authority().ok_or("it names no host")?;
    if authority.as_str().contains('@') {
        return Err("a user name in it is not used; give a token, a certificate or username".to_owned());
    }
    let host = authority.host();
    if host.is_empty() || host == "[]" {
        return Err("it names no host".to_owned());
    }
    let port = &authority.as_str()[host.len()..];
    if !port.is_empty() && uri.port_u16().is_none_or(|port| port == 0) {
        return Err(format!("the port {:?} is not in 1-65535", port.trim_start_matches(':')));
    }
    Ok(uri)
}

/// Whether `name` can be the name of a server in its certificate: a DNS name (RFC 1123) or an
/// address.
pub(super) fn is_server_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.parse::<std::net::IpAddr>().is_ok()
        || (name.len() <= 253 && name.trim_end_matches('.').split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_used_is_a_url_with_a_host() {
        let table: &[(&str, &str, Result<&str, &str>)] = &[
            ("a URL", "https://10.0.0.1:6443", Ok("https://10.0.0.1:6443/")),
            ("a slash at the end", "https://api.example/", Ok("https://api.example/")),
            ("a path", "https://rancher.example/k8s/c-1/", Ok("https://rancher.example/k8s/c-1")),
            ("IPv6", "https://[2001:db8::1]:6443", Ok("https://[2001:db8::1]:6443/")),
            ("spaces around it", " https://api.example\n", Ok("https://api.example/")),
            ("host and port", "10.0.0.1:6443", Ok("https://10.0.0.1:6443/")),
            ("a host", "api.example", Ok("https://api.example/")),
            ("without TLS", "http://127.0.0.1:8080", Ok("http://127.0.0.1:8080/")),
            ("nothing", "", Err("empty")),
            ("no host", "https://", Err("no host")),
            ("no host but a port", "https://:6443", Err("no host")),
            ("only a path", "/api", Err("")),
            ("another scheme", "ftp://10.0.0.1", Err("\"ftp\"")),
            ("a port too high", "https://10.0.0.1:66000", Err("\"66000\"")),
            ("a port of zero", "https://10.0.0.1:0", Err("\"0\"")),
            ("no port after the colon", "https://10.0.0.1:", Err("not in 1-65535")),
            ("a space within", "https://10.0.0.1 :6443", Err("' '")),
            ("a line within", "https://10.0.0.1\n:6443", Err("'\\n'")),
            ("letters of other scripts", "https://bücher.example", Err("'ü'")),
            ("a user", "https://me:secret@10.0.0.1", Err("user name")),
            ("a query", "https://10.0.0.1/?a=b", Err("\"?a=b\"")),
            ("a fragment", "https://10.0.0.1/#a", Err("\"#a\"")),
            ("IPv6 without brackets", "2001:db8::1", Err("brackets")),
        ];
        for (name, text, expected) in table {
            match (url(text, "https"), expected) {
                (Ok(uri), Ok(wanted)) => assert_eq!(uri.to_string(), *wanted, "{name}"),
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{name}: {reason}"),
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
        assert!(url(&format!("https://a.example/{}", "x".repeat(LENGTH)), "https").is_err(), "too long");
    }

    #[test]
    fn server_names_are_dns_names_or_addresses() {
        let table = [
            ("kubernetes.default.svc", true),
            ("api_1.example.", true),
            ("10.0.0.1", true),
            ("2001:db8::1", true),
            ("", false),
            ("a..b", false),
            ("-a", false),
            ("a b", false),
            ("https://a", false),
        ];
        for (name, expected) in table {
            assert_eq!(is_server_name(name), expected, "{name:?}");
        }
    }

    proptest::proptest! {
        /// Requests are made by putting a path after it: that must be a URI, too.
        #[test]
        fn what_is_accepted_takes_a_path(text in "(https?://|[a-z]{0,4}:?/{0,3})?[ -~]{0,40}|\\PC{0,40}") {
            if let Ok(uri) = url(&text, "https") {
                let path = format!("{}/api/v1/services?limit=1", uri.path().trim_end_matches('/'));
                let whole = Uri::builder()
                    .scheme(uri.scheme_str().unwrap())
                    .authority(uri.authority().unwrap().as_str())
                    .path_and_query(path)
                    .build();
                proptest::prop_assert!(whole.is_ok(), "{}", uri);
                proptest::prop_assert!(!uri.host().unwrap().is_empty());
            }
        }
    }
}
