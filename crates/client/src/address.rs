//! An authority's address: `http://host`, `https://host/v1`, with a prefix before `/v1` or not.

use std::net::IpAddr;

use reqwest::Url;

use crate::error::SettingsError;

/// Where the authority is. Requests go below its `/v1`.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// Without `/v1` and without a slash at the end.
    base: String,
    /// What messages name.
    shown: String,
    is_plain: bool,
}

impl Address {
    /// Reads an address. Plain HTTP is for loopback only, unless `allows_plain`: a key goes along with each request.
    pub(crate) fn parse(text: &str, allows_plain: bool) -> Result<Self, SettingsError> {
        const RIGHT: &str = "write it like https://auth.example.com, with or without /v1";
        // Not shown before it is known to be one: settings in each other's place would show a key.
        let wrong = |why: &str| {
            SettingsError::Address(format!(
                "the authority's address cannot be used: {why}; {RIGHT}"
            ))
        };
        let url = Url::parse(text.trim()).map_err(|_| wrong("it is no URL"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "it holds a name or password, and keys have settings of their own",
            ));
        }
        let is_plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(wrong("it must begin with https:// or http://")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        if is_plain && !allows_plain && !is_loopback(&url) {
            return Err(wrong(&format!(
                "to send the key to {} over plain HTTP would show it to everybody on the way, and that was not allowed",
                url.host_str().unwrap_or_default()
            )));
        }
        let base = url.as_str().trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base);
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self {
            shown: base.clone(),
            base,
            is_plain,
        })
    }

    /// The operator's door. HTTP requires a host, so requests name `localhost`; the socket determines where they go.
    #[cfg(unix)]
    pub(crate) fn door(socket: &std::path::Path) -> Self {
        Self {
            base: "http://localhost".to_owned(),
            shown: socket.display().to_string(),
            is_plain: true,
        }
    }

    /// The address without `/v1`, for messages.
    pub(crate) fn as_str(&self) -> &str {
        &self.shown
    }

    /// Whether requests go in plain text.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The URL of a path, which begins with a slash and stands below `/v1`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v1{path}", self.base)
    }
}

/// Whether the URL leads to this machine itself.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_end_in_v1_or_not() {
        for text in [
            "https://a.example",
            "https://a.example/",
            "https://a.example/v1",
            " https://a.example/v1/ ",
        ] {
            let address = Address::parse(text, false).expect("good");
            assert_eq!(address.url("/jwks"), "https://a.example/v1/jwks", "{text}");
        }
        let address = Address::parse("https://a.example:8443/auth/v1", false).expect("good");
        assert_eq!(address.url("/jwks"), "https://a.example:8443/auth/v1/jwks");
    }

    #[test]
    fn keys_are_not_sent_in_the_clear_to_other_machines() {
        for text in [
            "http://127.0.0.1:4840",
            "http://localhost/v1",
            "http://[::1]:1",
        ] {
            assert!(Address::parse(text, false).is_ok(), "{text}");
        }
        for text in [
            "http://a.example",
            "http://10.0.0.1:4840",
            "http://localhost.example",
        ] {
            assert!(Address::parse(text, false).is_err(), "{text}");
            assert!(Address::parse(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_is_not_shown() {
        for text in [
            "a.example",
            "ftp://a.example",
            "https://",
            "https://a.example?x=1",
            "",
        ] {
            assert!(Address::parse(text, true).is_err(), "{text}");
        }
        let error = Address::parse("https://user:hidden@a.example", true).expect_err("refused");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}
