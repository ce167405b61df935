//! Keeps the OpenAPI document, and builds the page that shows it, once at startup.
//!
//! The page is a vendored copy of Swagger UI with two small files of our own. File names contain a hash of the content,
//! so that browsers can cache the files indefinitely. Nothing is loaded from another origin.

use bytes::Bytes;
use http::HeaderValue;

const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const JAVASCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const SVG: HeaderValue = HeaderValue::from_static("image/svg+xml");

/// Builds the page when it is first needed.
pub(crate) type MakeDocs = Box<dyn FnOnce() -> Docs + Send>;

/// The document and the page that shows it, built once at startup.
pub(crate) struct Docs {
    pub(crate) document: Bytes,
    pub(crate) page: Bytes,
    pub(crate) assets: Vec<Asset>,
}

/// A file of the page.
pub(crate) struct Asset {
    /// The file name, which contains a hash of the content.
    pub(crate) name: String,
    pub(crate) content_type: HeaderValue,
    pub(crate) content: &'static [u8],
}

/// The files: placeholder in the page, extension, content type, content.
const FILES: [(&str, &str, HeaderValue, &[u8]); 5] = [
    (
        "{swagger-ui-script}",
        "js",
        JAVASCRIPT,
        include_bytes!("../assets/swagger-ui/swagger-ui-bundle.js"),
    ),
    (
        "{swagger-ui-style}",
        "css",
        CSS,
        include_bytes!("../assets/swagger-ui/swagger-ui.css"),
    ),
    (
        "{script}",
        "js",
        JAVASCRIPT,
        include_bytes!("../assets/swagger/initialize.js"),
    ),
    (
        "{style}",
        "css",
        CSS,
        include_bytes!("../assets/swagger/style.css"),
    ),
    (
        "{icon}",
        "svg",
        SVG,
        include_bytes!("../assets/swagger/icon.svg"),
    ),
];

impl Docs {
    pub(crate) fn new(document: Bytes) -> Self {
        let mut page = include_str!("../assets/swagger/page.html").to_owned();
        let mut assets = Vec::new();
        for (place, ending, content_type, content) in FILES {
            let name = format!(
                "{}-{:016x}.{ending}",
                place.trim_matches(['{', '}']),
                hash(content)
            );
            page = page.replace(place, &name);
            assets.push(Asset {
                name,
                content_type,
                content,
            });
        }
        Self {
            document,
            page: page.into(),
            assets,
        }
    }
}

/// Computes the FNV-1a hash. It tells versions of a file apart and is not a security measure.
fn hash(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_each_of_its_files_and_holds_no_code() {
        let docs = Docs::new(Bytes::new());
        let page = std::str::from_utf8(&docs.page).expect("text");
        for asset in &docs.assets {
            assert!(
                page.contains(&format!("\"swagger/{}\"", asset.name)),
                "{}",
                asset.name
            );
        }
        assert!(!page.contains('{'), "a placeholder is left");
        assert!(
            !page.contains("<style") && !page.contains("style=") && !page.contains("://"),
            "inline or foreign"
        );
        assert!(
            page.matches("<script").count() == page.matches("<script src=").count(),
            "inline"
        );
    }
}
