//! The models that a replica lists, and whether the model it is asked for is among them.

/// Names that are kept of a list.
const KEPT: usize = 100;

/// What a replica said it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serves {
    /// The names that were looked for in the whole list.
    wanted: Vec<String>,
    /// One of them is in it.
    lists_wanted: bool,
    /// Some of the list, sorted.
    names: Vec<String>,
    /// How many there are in all.
    all: usize,
}

impl Serves {
    /// Looks for any of `wanted` in the whole list. `None`: the list is empty and says nothing.
    pub fn new(wanted: &[String], mut listed: Vec<String>) -> Option<Self> {
        listed.sort_unstable();
        listed.dedup();
        if listed.is_empty() {
            return None;
        }
        let (lists_wanted, all) = (has(&listed, wanted), listed.len());
        listed.truncate(KEPT);
        Some(Self { wanted: wanted.to_vec(), lists_wanted, names: listed, all })
    }

    /// Does the list have one of these? `None`: it is not known any more, so the replica must be asked again.
    pub(super) fn has(&self, wanted: &[String]) -> Option<bool> {
        if self.wanted == wanted {
            return Some(self.lists_wanted);
        }
        let found = has(&self.names, wanted);
        (found || self.names.len() == self.all).then_some(found)
    }

    /// The only model that it serves.
    pub(super) fn only(&self) -> Option<&str> {
        self.names.first().filter(|name| self.all == 1 && !name.contains('*')).map(String::as_str)
    }

    /// The first of the list, at most `most`, and how many more there are.
    pub(super) fn some(&self, most: usize) -> (&[String], usize) {
        let said = &self.names[..self.names.len().min(most)];
        (said, self.all - said.len())
    }
}

fn has(listed: &[String], wanted: &[String]) -> bool {
    listed.iter().any(|listed| wanted.iter().any(|wanted| means(listed, wanted)))
}

/// Is a model that is listed so found under this name? Ollama lists `NAME:latest`, Gemini lists `models/NAME`, and a gateway
/// lists `openai/*`.
fn means(listed: &str, wanted: &str) -> bool {
    let bare = |name: &str| -> String {
        let name = name.strip_prefix("models/").unwrap_or(name);
        name.strip_suffix(":latest").unwrap_or(name).to_owned()
    };
    let (listed, wanted) = (bare(listed), bare(wanted));
    fits(&listed, &wanted) || fits(&wanted, &listed)
}

/// Each `*` of the pattern stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let Some((between, last)) = rest.rsplit_once('*') else { return name.ends_with(rest) };
    for part in between.split('*') {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_is_known_in_each_form_that_servers_list() {
        for (listed, wanted) in [
            ("llama", "llama"),
            ("llama3:latest", "llama3"),
            ("llama3", "llama3:latest"),
            ("models/gem", "gem"),
            ("gem", "models/gem"),
            ("openai/*", "openai/gpt-4o"),
            ("*", "anything"),
            ("*-large*", "e5-large-v2"),
            ("a*b*c", "a-b-b-c"),
            ("llama", "*"),
        ] {
            assert!(means(listed, wanted), "{listed} {wanted}");
        }
        for (listed, wanted) in [
            ("llama3:8b", "llama3"),
            ("Llama", "llama"),
            ("openai/*", "gpt-4o"),
            ("ab*ba", "aba"),
            ("a*b*c", "a-c"),
            ("a*b*b", "ab"),
            ("llama", ""),
        ] {
            assert!(!means(listed, wanted), "{listed} {wanted}");
        }
    }

    #[test]
    fn the_whole_list_is_searched_and_some_of_it_is_kept() {
        let many = || (0..151).map(|i| format!("lora-{i:03}")).chain(["z-base".to_owned()]);
        let serves = |wanted: &[&str]| Serves::new(&owned(wanted), many().collect()).unwrap();
        let found = serves(&["z-base"]);
        assert_eq!(found.has(&owned(&["z-base"])), Some(true));
        assert_eq!((found.only(), found.some(3).1), (None, 149));
        assert_eq!(serves(&["chat"]).has(&owned(&["chat"])), Some(false));
        // The name changes in the file: what is not kept must be asked for again.
        assert_eq!(serves(&["chat"]).has(&owned(&["z-base"])), None);
        assert_eq!(serves(&["chat"]).has(&owned(&["lora-001"])), Some(true));
        let one = Serves::new(&owned(&["chat"]), owned(&["other", "other"])).unwrap();
        assert_eq!((one.only(), one.has(&owned(&["x"]))), (Some("other"), Some(false)));
        assert_eq!(Serves::new(&owned(&["chat"]), Vec::new()), None);
        let any = Serves::new(&owned(&["chat"]), owned(&["openai/*"])).unwrap();
        assert_eq!(any.only(), None, "nobody can write that as a name");
    }
}
