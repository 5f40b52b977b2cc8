def save_scatter(folder):
    pass
