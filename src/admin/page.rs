//! The page: a few files without data, built into the program.
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 21] = [
    ("/", HTML, include_str!("ui/page.html")),
    ("/ui/page.css", CSS, include_str!("ui/page.css")),
    ("/ui/actions.js", JS, include_str!("ui/actions.js")),
    ("/ui/app.js", JS, include_str!("ui/app.js")),
    ("/ui/charts.js", JS, include_str!("ui/charts.js")),
    ("/ui/configuration.js", JS, include_str!("ui/configuration.js")),
    ("/ui/dom.js", JS, include_str!("ui/dom.js")),
    ("/ui/errors.js", JS, include_str!("ui/errors.js")),
    ("/ui/events.js", JS, include_str!("ui/events.js")),
    ("/ui/icon.svg", "image/svg+xml", include_str!("ui/icon.svg")),
    ("/ui/model.js", JS, include_str!("ui/model.js")),
    ("/ui/overview.js", JS, include_str!("ui/overview.js")),
    ("/ui/problems.js", JS, include_str!("ui/problems.js")),
    ("/ui/replicas.js", JS, include_str!("ui/replicas.js")),
    ("/ui/requests.js", JS, include_str!("ui/requests.js")),
    ("/ui/shell.js", JS, include_str!("ui/shell.js")),
    ("/ui/stream.js", JS, include_str!("ui/stream.js")),
    ("/ui/test.js", JS, include_str!("ui/test.js")),
    ("/ui/words.js", JS, include_str!("ui/words.js")),
    ("/ui/uplot.css", CSS, include_str!("ui/vendor/uPlot.min.css")),
    ("/ui/uplot.js", JS, include_str!("ui/vendor/uPlot.iife.min.js")),
];

/// Is this one of the page's files?
pub(super) fn is_page(path: &str) -> bool {
    FILES.iter().any(|(at, ..)| *at == path)
}

pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(path, ..)| *path)
}

pub(super) async fn show(uri: Uri) -> Response {
    let file = FILES.iter().find(|(at, ..)| *at == uri.path());
    let (_, kind, text) = file.expect("routes exist for these paths alone");
    ([(header::CONTENT_TYPE, *kind)], *text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::digest::{SHA256, digest};
    use std::fmt::Write as _;

    /// uPlot 1.6.32 as npm has it, under the licence beside it.
    const VENDORED: [(&str, &str); 2] = [
        ("/ui/uplot.css", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
        ("/ui/uplot.js", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
    ];

    fn is_ours(path: &str) -> bool {
        VENDORED.iter().all(|(theirs, _)| *theirs != path)
    }

    #[test]
    fn the_page_asks_nobody_else_and_makes_no_markup_of_data() {
        for (path, _, text) in FILES {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(word), "{word} in {path}");
            }
            // A name that looks like an address.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!is_ours(path) || !text.contains("://"), "{path}");
        }
    }

    #[test]
    fn what_others_wrote_is_as_they_published_it() {
        for (path, wanted) in VENDORED {
            let (.., text) = FILES.iter().find(|(at, ..)| *at == path).unwrap();
            let found = digest(&SHA256, text.as_bytes());
            let hex = found.as_ref().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            assert_eq!(hex, wanted, "{path}");
        }
        assert!(include_str!("ui/vendor/LICENSE-uPlot").contains("MIT"));
    }

    #[test]
    fn the_page_is_small() {
        let all: usize = FILES.iter().map(|(.., text)| text.len()).sum();
        assert!(all < 200_000, "{all} bytes");
    }

    #[test]
    fn every_file_that_the_page_asks_for_is_there() {
        for (path, _, text) in FILES.iter().filter(|(path, ..)| is_ours(path)) {
            let named = text.split('"').filter_map(|word| match word.split_at_checked(2)? {
                ("./", name) => Some(format!("/ui/{name}")),
                ("ui", rest) => Some(format!("/ui{rest}")),
                _ => None,
            });
            for file in named {
                assert!(is_page(&file), "{path} asks for {file}");
            }
        }
    }
}
