"""From run folders to the page that shows them."""
