//! Whether a server is asked through a proxy, as kubectl and curl decide it. IO: [`Environment::read`].
//!
//! Input: the variables of the environment, and where somebody wants to go. Output: the proxy's address, or that there is none. What a
//! proxy's address holds of a password is never shown.

use std::env;
use std::net::IpAddr;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The variables that name proxies. Not `Debug`: they may hold a password.
#[derive(Clone, Default)]
pub struct Environment {
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `NO_PROXY`.
    pub no: Option<String>,
}

impl Environment {
    /// That of this process. As elsewhere, a name in small letters counts where the other one is not set or empty.
    pub fn read() -> Self {
        let first = |names: [&str; 2]| {
            names
                .into_iter()
                .filter_map(|name| env::var_os(name)?.into_string().ok())
                .find(|value| !value.trim().is_empty())
        };
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: first(["HTTP_PROXY", "http_proxy"]),
            no: first(["NO_PROXY", "no_proxy"]),
        }
    }

    /// The proxy on the way to a server, if there is one. The error names the variable.
    pub fn proxy(&self, server: &Uri) -> Result<Option<Uri>, String> {
        let (name, proxy) = match server.scheme_str() {
            Some("https") => ("HTTPS_PROXY", &self.https),
            _ => ("HTTP_PROXY", &self.http),
        };
        let Some(proxy) = proxy.as_ref().filter(|_| !self.is_direct(server)) else { return Ok(None) };
        address(proxy).map(Some).map_err(|why| format!("{name}: {why}"))
    }

    /// Whether no proxy is wanted for a server: it is this machine, or `NO_PROXY` names it.
    fn is_direct(&self, server: &Uri) -> bool {
        let host = server.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback()) {
            return true;
        }
        let default = if server.scheme_str() == Some("https") { 443 } else { 80 };
        let port = server.port_u16().unwrap_or(default);
        let entries = self.no.as_deref().unwrap_or_default().split(',').map(str::trim);
        let named: Vec<&str> = entries.filter_map(|entry| host_of(entry, port)).collect();
        // Whatever it is, it only tells whether it would be passed by.
        let matcher = Matcher::builder().all("http://proxy").no(named.join(",")).build();
        named.contains(&"*") || matcher.intercept(server).is_none()
    }
}

/// The host of an entry of `NO_PROXY`, unless it is meant for another port.
fn host_of(entry: &str, port: u16) -> Option<&str> {
    let (host, of) = match entry.rsplit_once(':') {
        // The colons of an IPv6 address.
        Some((host, of)) if !host.contains(':') || host.ends_with(']') => (host, Some(of)),
        _ => (entry, None),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    of.is_none_or(|of| of.parse() == Ok(port)).then_some(host)
}

/// The address of a proxy: one without a scheme is meant to be `http`. The error does not repeat it.
pub fn address(text: &str) -> Result<Uri, String> {
    let expected = "it is no address of a proxy; expected http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT, with special \
                    characters of a password as %40 and their like";
    let text = text.trim();
    // Names are looked up by the proxy in both.
    let text = match text.split_once("://") {
        Some(("socks5h", rest)) => format!("socks5://{rest}"),
        Some(_) => text.to_owned(),
        None => format!("http://{text}"),
    };
    let uri: Uri = text.parse().map_err(|_| expected)?;
    let is_known = uri.scheme_str().is_some_and(|scheme| ["http", "https", "socks5"].contains(&scheme));
    let is_whole = uri.host().is_some_and(|host| !host.is_empty());
    let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if uri.scheme_str() == Some("socks5") && user {
        return Err("a proxy of SOCKS that wants a password is not supported; name one of HTTP".to_owned());
    }
    if is_known && is_whole { Ok(uri) } else { Err(expected.to_owned()) }
}

/// An address without user and password.
pub fn shown(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = uri.path().trim_end_matches('/');
    uri.scheme_str().map_or_else(|| format!("{host}{path}"), |scheme| format!("{scheme}://{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::{Environment, address, shown};

    fn environment(no: &str) -> Environment {
        Environment {
            https: Some("http://u:secret@secure:3128".to_owned()),
            http: Some("plain:3128".to_owned()),
            no: Some(no.to_owned()),
        }
    }

    #[test]
    fn the_scheme_of_the_server_names_the_proxy_and_no_proxy_is_about_the_server() {
        for (no, server, proxied) in [
            ("", "https://api.example.com:6443", true),
            // Of the proxy itself it says nothing.
            ("secure,plain", "https://api.example.com:6443", true),
            ("example.com", "https://api.example.com:6443", false),
            (".example.com", "https://api.example.com:6443", false),
            ("*.example.com", "https://API.example.com:6443", false),
            ("ample.com", "https://api.example.com:6443", true),
            ("a, api.example.com ,", "https://api.example.com", false),
            ("api.example.com:443", "https://api.example.com", false),
            ("api.example.com:443", "https://api.example.com:6443", true),
            ("*", "https://10.0.0.1", false),
            ("10.0.0.1", "https://10.0.0.1:6443", false),
            ("10.0.0.0/8", "https://10.96.0.1", false),
            ("10.0.0.0/8", "https://11.96.0.1", true),
            ("fd00::/8", "https://[fd00::1]:6443", false),
            ("[fd00::1]:6443,x/y:z", "https://[fd00::1]:6443", false),
            ("fd00::2", "https://[fd00::1]:6443", true),
            ("", "https://127.0.0.2:6443", false),
            ("", "https://[::1]:6443", false),
            ("", "https://localhost", false),
        ] {
            let found = environment(no).proxy(&server.parse().unwrap()).unwrap();
            let expected = proxied.then(|| "http://u:secret@secure:3128".parse().unwrap());
            assert_eq!(found, expected, "NO_PROXY={no} for {server}");
        }
        let plain = environment("").proxy(&"http://api.example.com".parse().unwrap()).unwrap();
        assert_eq!(plain, Some("http://plain:3128".parse().unwrap()));
        let server = "https://api.example.com".parse().unwrap();
        assert_eq!(Environment::default().proxy(&server).unwrap(), None);
    }

    #[test]
    fn what_is_no_address_of_a_proxy_is_told_without_its_password() {
        for good in ["proxy", "proxy:3128", "http://u:p@proxy:3128/", "https://proxy", "socks5://[::1]:1080"]
        {
            assert!(address(good).is_ok(), "{good}");
        }
        assert_eq!(address("socks5h://proxy:1080").unwrap(), address("socks5://proxy:1080").unwrap());
        for bad in
            ["", "ftp://u:secret@a", "http://u:secret@", "http://u:secret word@a", "socks5://u:secret@a:1080"]
        {
            let https = Some(bad.to_owned());
            let environment = Environment { https, ..Environment::default() };
            let error = environment.proxy(&"https://a.example".parse().unwrap()).unwrap_err();
            assert!(error.starts_with("HTTPS_PROXY: ") && !error.contains("secret"), "{bad}: {error}");
        }
    }

    #[test]
    fn no_user_and_no_password_is_shown() {
        for (uri, text) in [
            ("https://u:p@api:6443/", "https://api:6443"),
            ("http://proxy:3128", "http://proxy:3128"),
            ("https://a/k8s/c-1", "https://a/k8s/c-1"),
        ] {
            assert_eq!(shown(&uri.parse().unwrap()), text);
        }
    }
}
