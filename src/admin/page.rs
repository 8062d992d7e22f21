//! The page: three files without data, built into the program.
use axum::http::{Uri, header};
use axum::response::{IntoResponse as _, Response};

const FILES: [(&str, &str, &str); 3] = [
    ("/", "text/html; charset=utf-8", include_str!("ui/page.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("ui/page.js")),
    ("/page.css", "text/css; charset=utf-8", include_str!("ui/page.css")),
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

    #[test]
    fn the_page_asks_nobody_else_and_makes_no_markup_of_data() {
        for (path, _, text) in FILES {
            assert!(!text.contains("innerHTML") && !text.contains("://"), "{path}");
        }
    }
}
