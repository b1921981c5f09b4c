"""The themes that a front end can wear; clients store their ids."""

import attrs


@attrs.frozen
class Theme:
    """A theme and the style sheets it is made of, in the order of their loading."""

    id: str
    name: str
    is_dark: bool
    sheets: tuple[str, ...]

    def on_wire(self) -> dict[str, object]:
        """Describe the theme as `GetUserSettings.themes` does."""
        paths = [f"css/themes/{sheet}.css" for sheet in self.sheets]
        return {"name": self.name, "is_dark": self.is_dark, "css_paths": paths}


THEMES = (
    Theme("modern_dark", "Modern Dark", True, ("modern", "modern_dark")),
    Theme("modern_light", "Modern Light", False, ("modern", "modern_light")),
    Theme("solarized", "Solarized Light", False, ("modern", "solarized")),
    Theme("dark_dreams", "Dark Dreams (Legacy)", True, ("dark_dreams",)),
    Theme("gravity_blue", "Gravity Blue (Legacy)", True, ("gravity_blue",)),
    Theme("cyber_swarm", "Cyber Swarm (Legacy)", True, ("cyber_swarm",)),
    Theme("punked", "Punked (Legacy)", True, ("punked",)),
    Theme("eyesear_white", "Eyesear White (Legacy)", False, ("eyesear_white",)),
    Theme("swarmpunk", "Swarm Punk", True, ("modern", "swarmpunk")),
    Theme("beweish", "Beweish", True, ("modern", "beweish")),
    Theme("ctp_mocha", "Catppuccin Mocha", True, ("modern", "ctp_mocha")),
    Theme("ctp_macchiato", "Catppuccin Macchiato", True, ("modern", "ctp_macchiato")),
    Theme("ctp_frappe", "Catppuccin Frappé", True, ("modern", "ctp_frappe")),
    Theme("ctp_latte", "Catppuccin Latte", False, ("modern", "ctp_latte")),
)
