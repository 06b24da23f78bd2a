//! Common parts of the pictures: background, title and fonts, in the reader's light or dark colour scheme. A picture
//! has its own background so that it is readable everywhere.

/// Style of every picture, followed by the picture's own style; [`DARK`] comes last.
const STYLE: &str = "
text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; fill: #1f2328; }
.ground { fill: #ffffff; stroke: #d1d9e0; }
.title { font-size: 20px; font-weight: 600; }
.panel { font-size: 14px; font-weight: 600; }
.quiet { fill: #59636e; font-size: 11px; }
";

/// Style in the dark colour scheme.
const DARK: &str = "  text { fill: #e6edf3; }
  .ground { fill: #0d1117; stroke: #3d444d; }
  .quiet { fill: #9198a1; }
";

/// A picture without its content.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// Left margin in pixels.
    pub margin: f64,
    /// Title.
    pub title: &'a str,
    /// Text alternative for screen readers.
    pub label: &'a str,
    /// Explanation below the title.
    pub caption: &'a str,
    /// CSS of this picture.
    pub style: &'a str,
    /// CSS of this picture in the dark colour scheme.
    pub dark: &'a str,
}

impl Picture<'_> {
    /// The whole SVG file with this content.
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

/// Escapes text for XML.
#[must_use]
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b&c>d\"e"), "a&lt;b&amp;c&gt;d&quot;e");
    }
}
