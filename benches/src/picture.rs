//! What the pictures of this bench have in common: their ground, title and letters, in the reader's light or dark scheme.
//! A picture brings its own ground, so that it can be read wherever it is shown.

/// Of every picture. What a picture has of its own follows it, and [`DARK`] comes last.
const STYLE: &str = "
text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; fill: #1f2328; }
.ground { fill: #ffffff; stroke: #d1d9e0; }
.title { font-size: 20px; font-weight: 600; }
.panel { font-size: 14px; font-weight: 600; }
.quiet { fill: #59636e; font-size: 11px; }
";

/// The same in the dark.
const DARK: &str = "  text { fill: #e6edf3; }
  .ground { fill: #0d1117; stroke: #3d444d; }
  .quiet { fill: #9198a1; }
";

/// A picture without what it shows.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Pixels.
    pub width: f64,
    /// Pixels.
    pub height: f64,
    /// Pixels that stay free at the left.
    pub margin: f64,
    /// What it is called.
    pub title: &'a str,
    /// What it shows, for those who cannot see it.
    pub label: &'a str,
    /// How to read it.
    pub caption: &'a str,
    /// Classes of its own.
    pub style: &'a str,
    /// The same in the dark.
    pub dark: &'a str,
}

impl Picture<'_> {
    /// The whole file, with what is drawn in it.
    #[must_use]
    pub fn with(&self, drawn: &str) -> String {
        let Self { width, height, margin, title, label, caption, style, dark } = *self;
        let (title, label, caption) = (escape(title), escape(label), escape(caption));
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">
<style>{STYLE}{style}@media (prefers-color-scheme: dark) {{
{DARK}{dark}}}
</style>
<rect class="ground" x="0.5" y="0.5" width="{}" height="{}" rx="8"/>
<text class="title" x="{margin}" y="40">{title}</text>
<text class="quiet" x="{margin}" y="60">{caption}</text>
{drawn}</svg>
"#,
            width - 1.0,
            height - 1.0,
        )
    }
}

/// Text that cannot break the markup.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_cannot_break_the_markup() {
        assert_eq!(escape("a<b&c>d\"e"), "a&lt;b&amp;c&gt;d&quot;e");
    }
}
