//! `${VAR}` and `${VAR:-default}` in scalars.

/// Why a text cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Unset(String),
    /// `${` that begins no variable; the text from there on.
    Malformed(String),
}

/// Replaces every variable by its value. As in a shell, the default also stands in for an empty value.
/// `$${` is a literal `${`.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let malformed = || Fault::Malformed(rest[at..].to_owned());
        let end = inside.find('}').ok_or_else(malformed)?;
        let (name, default) = match inside[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inside[..end], None),
        };
        let named = name.chars().enumerate().all(|(index, c)| {
            c == '_' || c.is_ascii_alphabetic() || (index > 0 && c.is_ascii_digit())
        });
        if name.is_empty() || !named {
            return Err(malformed());
        }
        let value = match (env(name), default) {
            (Some(value), Some(default)) if value.is_empty() => default.to_owned(),
            (Some(value), _) => value,
            (None, Some(default)) => default.to_owned(),
            (None, None) => return Err(Fault::Unset(name.to_owned())),
        };
        out.push_str(&value);
        rest = &inside[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_wherever_they_stand() {
        assert_eq!(expand("http://${HOST}:${PORT:-80}", &env).unwrap(), "http://10.0.0.1:80");
    }

    #[test]
    fn an_empty_value_takes_the_default_but_is_not_unset() {
        assert_eq!(expand("${EMPTY:-x}${EMPTY}", &env).unwrap(), "x");
    }

    #[test]
    fn two_dollars_are_a_literal_one() {
        assert_eq!(expand("a$${HOST}b $5", &env).unwrap(), "a${HOST}b $5");
    }

    #[test]
    fn faults_name_what_is_wrong() {
        assert_eq!(expand("${NO}", &env), Err(Fault::Unset("NO".to_owned())));
        assert_eq!(expand("x${NO", &env), Err(Fault::Malformed("${NO".to_owned())));
        assert_eq!(expand("${1}", &env), Err(Fault::Malformed("${1}".to_owned())));
    }
}
