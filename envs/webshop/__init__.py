"""WebShop (Yao et al. 2022): shopping by instruction in a simulated web shop."""
