"""What came before attention: windows and memories."""
