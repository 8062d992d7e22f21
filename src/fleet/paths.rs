//! The classes of paths on which a version's replicas failed: few, and named by the first that did.
use crate::health::PathClass;
use std::sync::OnceLock;

/// Names, in the order in which they first failed. The last class is all further ones.
#[derive(Debug, Default)]
pub struct Paths([OnceLock<Box<str>>; PathClass::CLASSES - 1]);

impl Paths {
    /// The class of this name.
    pub fn find(&self, name: &str) -> PathClass {
        let known = self.0.iter().position(|known| known.get().is_some_and(|n| **n == *name));
        known.map_or(PathClass::OTHER, PathClass::new)
    }

    /// The class of this name, which is a new one while there is room.
    pub fn find_or_add(&self, name: &str) -> PathClass {
        let place = self.0.iter().position(|known| **known.get_or_init(|| name.into()) == *name);
        place.map_or(PathClass::OTHER, PathClass::new)
    }

    pub fn name(&self, class: PathClass) -> &str {
        self.0.get(class.place()).and_then(OnceLock::get).map_or("other paths", |name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_keeps_its_name_and_further_ones_have_none() {
        let paths = Paths::default();
        for i in 0..20 {
            let class = paths.find_or_add(&format!("/{i}"));
            assert_eq!(class.place(), i.min(7));
            let name = if i < 7 { format!("/{i}") } else { "other paths".to_owned() };
            assert_eq!(paths.name(class), name);
        }
        assert_eq!((paths.find("/3").place(), paths.find("/11")), (3, PathClass::OTHER));
    }
}
