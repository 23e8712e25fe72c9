//! Values that many pods share, kept once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::climb::ControllerRef;

/// The values of one type that are in use.
#[derive(Debug)]
pub(crate) struct Pool<T: ?Sized> {
    kept: HashSet<Arc<T>>,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Pool { kept: HashSet::new() }
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// The one copy of this value.
    pub(crate) fn keep(&mut self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        if let Some(kept) = self.kept.get(value.borrow()) {
            return kept.clone();
        }
        let kept: Arc<T> = value.into();
        self.kept.insert(kept.clone());
        kept
    }

    /// The one copy of this value where there is one, else one that is not kept: for what few will ever ask for.
    fn borrow(&self, value: impl Borrow<T> + Into<Arc<T>>) -> Arc<T> {
        match self.kept.get(value.borrow()) {
            Some(kept) => kept.clone(),
            None => value.into(),
        }
    }

    /// Forgets what nobody uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.kept.retain(|value| Arc::strong_count(value) > 1);
        if self.kept.capacity() > 4 * self.kept.len() {
            self.kept.shrink_to_fit();
        }
    }
}

/// The texts in use, and references to controllers, which are mostly text.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    texts: Pool<str>,
    references: Pool<ControllerRef>,
}

impl Texts {
    /// The one copy of this text.
    pub(crate) fn keep(&mut self, text: &str) -> Arc<str> {
        self.texts.keep(text)
    }

    /// The one copy of this text where there is one. Most objects that own pods are old ReplicaSets that nothing
    /// refers to any more.
    pub(crate) fn borrow(&self, text: &str) -> Arc<str> {
        self.texts.borrow(text)
    }

    /// The one copy of this reference.
    pub(crate) fn keep_reference(&mut self, reference: ControllerRef) -> Arc<ControllerRef> {
        self.references.keep(reference)
    }

    /// Forgets what nobody uses any more.
    pub(crate) fn forget_unused(&mut self) {
        self.references.forget_unused();
        self.texts.forget_unused();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_kept_once_and_forgotten_when_unused() {
        let mut texts = Texts::default();
        let first = texts.keep("registry.example.com/shop/web:1");
        let same = |other: &Arc<str>| Arc::ptr_eq(&first, other);
        assert!(same(&texts.keep("registry.example.com/shop/web:1")));
        assert!(same(&texts.borrow("registry.example.com/shop/web:1")));
        texts.forget_unused();
        assert_eq!(texts.texts.kept.len(), 1);
        drop(first);
        texts.forget_unused();
        assert!(texts.texts.kept.is_empty());
    }

    #[test]
    fn what_is_borrowed_and_not_there_is_not_kept() {
        let texts = Texts::default();
        assert_eq!(&*texts.borrow("web-1"), "web-1");
        assert!(texts.texts.kept.is_empty());
    }

    #[test]
    fn lists_are_kept_once_too() {
        let mut lists: Pool<[u8]> = Pool::default();
        let one = lists.keep(vec![1, 2]);
        assert!(Arc::ptr_eq(&one, &lists.keep(vec![1, 2])));
        assert!(!Arc::ptr_eq(&one, &lists.keep(Vec::new())));
        lists.forget_unused();
        assert_eq!(lists.kept.len(), 1);
    }
}
